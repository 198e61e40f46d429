import { createHmac, randomUUID } from 'node:crypto'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { workloadEndpoint } from '../../src/cli/demo-migration.ts'
import { inGuest } from '../support/in-guest.ts'
import { hasEnded, openScenario, type ScenarioMigration, type ScenarioSite } from '../support/scenario-site.ts'

/**
 * Static IP and interface names lost: the complaint. A guest leaves a network with DHCP for another where it is to have a fixed address. Its interface has a name that the kernel would
 * not give it again. On its way a command runs in it, and a server is told.
 */
const secret = 'the key of the scenario'
const fixed = { address: '10.0.2.15/24', gateway: '10.0.2.2', dnsServers: ['10.0.2.3'] }
const interfaceName = 'for i in /sys/class/net/*; do if [ -e "$i/device" ]; then basename "$i"; fi; done'

/** Makes of the tiny guest one that takes its interfaces' names from udev's rules and their addresses from /etc/network/interfaces, at each boot; and renames its interface now, as a person would. */
const withOwnNetworkConfiguration = String.raw`mkdir -p /etc/network/if-pre-up.d /etc/network/if-up.d
printf 'auto lo\niface lo inet loopback\n\nauto lan0\niface lan0 inet dhcp\n' >/etc/network/interfaces
cd /usr/local/lib/guest
mv dhcp dhcp-client
cat >dhcp <<'SCRIPT'
#!/bin/sh
mac=$(cat "/sys/class/net/$1/address")
name=$(cat /etc/udev/rules.d/*.rules | sed -n "s/.*ATTR{address}==\"$mac\".* NAME=\"\([a-z0-9]*\)\".*/\1/p")
[ -n "$name" ] && ip link set "$1" name "$name" && set -- "$name"
grep -q "^iface $1 inet static" /etc/network/interfaces && exec busybox ifup -f "$1"
exec /usr/local/lib/guest/dhcp-client "$1"
SCRIPT
chmod 755 dhcp
cat >/run/rename <<'SCRIPT'
sleep 1
for process in /proc/[0-9]*; do tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -q 'guest/dhcp eth0' && kill "$(basename "$process")"; done
busybox killall udhcpc
ip link set eth0 down
ip link set eth0 name lan0
exec /usr/local/lib/guest/dhcp-client lan0
SCRIPT
busybox setsid sh /run/rename </dev/null >/dev/null 2>&1 &`

describe('a guest with hooks that gets another address', () => {
  let scenario: ScenarioSite
  let server: Server
  let moved: ScenarioMigration
  let destinationId: string
  const received: { headers: IncomingHttpHeaders; body: string }[] = []

  beforeAll(async () => {
    server = createServer((request, response) => {
      let body = ''
      request.on('data', (chunk: Buffer) => (body += chunk.toString()))
      request.on('end', () => {
        received.push({ headers: request.headers, body })
        response.end()
      })
    })
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
    scenario = await openScenario({ from: 'west', webhooks: { allow: ['127.0.0.1'] } })
    await inGuest(scenario.source, scenario.vm.vmId, withOwnNetworkConfiguration)
    await vi.waitFor(async () => expect(await inGuest(scenario.source, scenario.vm.vmId, interfaceName)).toBe('lan0'), {
      timeout: 120_000,
      interval: 1_000,
    })
    await scenario
      .api()
      .run('mutation Secret($input: SetWebhookSecretInput!) { setWebhookSecret(input: $input) { __typename ... on Error { message } } }', {
        input: { idempotencyKey: randomUUID(), name: 'scenario', secret },
      })
    const { nics } = await scenario.source.connection.virtualMachines.describe({ vmId: scenario.vm.vmId })
    const { migration, message } = await scenario.start({
      addressing: [{ mac: nics[0]!.mac, static: fixed }],
      hooks: [
        { name: 'flush', phase: 'FREEZE', when: 'BEFORE', command: ['sh', '-c', 'echo "$PORTOLAN_PHASE" >/root/hook-ran; echo flushed'] },
        { name: 'tell', phase: 'SUSPEND_SOURCE', when: 'AFTER', webhook: { url, secretName: 'scenario' } },
        {
          name: 'optional',
          phase: 'EXPOSE',
          when: 'AFTER',
          onFailure: 'IGNORE',
          webhook: { url: 'http://169.254.169.254/', secretName: 'scenario' },
        },
      ],
    })
    expect(message).toBeUndefined()
    moved = await scenario.until(migration!.id, hasEnded, 560_000)
    const { virtualMachines } = await scenario.destination.connection.discoverTopology({})
    destinationId = virtualMachines.find(({ uniqueId }) => uniqueId === scenario.vm.uniqueId)!.id
  })
  afterAll(async () => {
    await scenario?.close()
    await new Promise((closed) => server.close(closed))
  })

  test('it completes, verified, and every acknowledged record is in the copy', async () => {
    expect(moved).toMatchObject({ state: 'COMPLETED', verified: true, error: null })
    scenario.records.moveTo(workloadEndpoint(moved, 8080))
    await scenario.records.stop()
    expect(await scenario.records.count()).toBe(scenario.records.acknowledged())
  })

  test('static IP and NIC names lost: the copy has the address that was asked for, not by DHCP, and its interface its name', async () => {
    expect(await inGuest(scenario.destination, destinationId, interfaceName)).toBe('lan0')
    const address = await inGuest(scenario.destination, destinationId, 'ip -4 -o address show dev lan0; ip -4 route show default')
    expect(address).toContain('inet 10.0.2.15/24')
    expect(address).not.toContain('dynamic')
    expect(address).toContain('default via 10.0.2.2 dev')
  })

  test('the command ran in the source before the freeze, so what it wrote is in the copy', async () => {
    expect(await inGuest(scenario.destination, destinationId, 'cat /root/hook-ran')).toBe('FREEZE')
  })

  test('the server was told, signed; a place that may not be reached was not, and that is an event', async () => {
    expect(received).toHaveLength(1)
    const [{ headers, body }] = received as [(typeof received)[number]]
    const [, seconds, signature] = /^t=(\d+),v1=(.*)$/.exec(String(headers['portolan-signature'])) ?? []
    expect(signature).toBe(createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex'))
    expect(JSON.parse(body)).toMatchObject({ migration: expect.any(String), phase: 'SUSPEND_SOURCE', when: 'AFTER', hook: 'tell' })
    const { migration } = await scenario
      .api()
      .run<{ migration: { events: { nodes: { message: string }[] } } }>(
        'query Events($id: ID!) { migration(id: $id) { events(first: 100, orderBy: NEWEST_FIRST) { nodes { message } } } }',
        { id: moved.id },
      )
    const messages = migration.events.nodes.map(({ message }) => message).join('\n')
    expect(messages).toContain('The hook flush (BEFORE FREEZE) ended well. It wrote 8 bytes, at the end: flushed')
    expect(messages).toContain('may not reach 169.254.169.254')
    expect(messages).not.toContain(secret)
  })
})
