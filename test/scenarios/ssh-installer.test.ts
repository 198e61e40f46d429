/** The SDK's SSH installer with the real agent bundle in a real guest: what it needs is there, and afterwards nothing of it is. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { artifacts, guestMemoryBytes, readGuestAccess } from '../../setup/artifacts.ts'
import type { ProviderConnection } from '../../src/plugin-sdk/index.ts'
import { openSshSession } from '../../src/plugin-sdk/installers/ssh-session.ts'
import { loadPlugin } from '../../src/plugin-sdk/registry/load-plugin.ts'

const { tinyImage, agentBundleDirectory } = artifacts()
const bootstrap = {
  path: '/etc/portolan/bootstrap.json',
  mode: 0o600,
  content: JSON.stringify({
    migrationId: 'installer-test',
    role: 'SOURCE',
    controlPlane: [{ host: '10.0.2.2', port: 1 }],
    serverName: 'installer-test.migration.portolan.internal',
    caCertificatePem: '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n',
    enrolmentToken: 'none',
  }),
}

let stateDirectory: string
let cloud: ProviderConnection
let vmId: string

beforeAll(async () => {
  stateDirectory = await mkdtemp(join(tmpdir(), 'portolan-installer-'))
  const plugin = await loadPlugin(join(import.meta.dirname, '../../plugins/qemu'), { log: () => {} })
  cloud = (await plugin.connect({ stateDirectory, guestAccess: [{ match: '*', ...readGuestAccess() }] })).connection
  const created = await cloud.virtualMachines.create?.({
    operationId: randomUUID(),
    virtualMachine: {
      name: 'installer-test',
      uniqueId: randomUUID(),
      cpuCount: 1,
      memoryBytes: guestMemoryBytes,
      firmware: 'BIOS',
      disks: [{ index: 0, sizeBytes: (await stat(tinyImage)).size }],
      nics: [{ index: 0, mac: '52:54:00:12:34:56', networkId: (await cloud.discoverTopology({})).networks[0]?.id ?? '' }],
    },
    imagePath: tinyImage,
    inboundPorts: [22, 8080],
  })
  vmId = created?.vmId ?? ''
  await cloud.virtualMachines.start({ operationId: randomUUID(), vmId })
})
afterAll(async () => {
  await cloud.virtualMachines.delete?.({ operationId: randomUUID(), vmId })
  await cloud.close()
  await rm(stateDirectory, { recursive: true, force: true })
})

async function inGuest(script: string): Promise<string> {
  const { fromControlPlane } = await cloud.network.reachability({ vmId, guestPort: 22 })
  if (!fromControlPlane) throw new Error('The guest has no way in.')
  const session = await openSshSession({ endpoint: fromControlPlane, ...readGuestAccess() }, AbortSignal.timeout(60_000))
  try {
    return (await session.run(script)).stdout.trim()
  } finally {
    await session.close()
  }
}

async function untilSshAnswers(): Promise<void> {
  const deadline = performance.now() + 240_000
  for (;;) {
    try {
      return void (await inGuest('true'))
    } catch (error) {
      if (performance.now() > deadline) throw error
      await delay(1_000)
    }
  }
}

test('the agent comes onto a tmpfs of its own, and goes without a trace', async () => {
  await untilSshAnswers()
  // Everything on the root file system but what the guest itself writes all the time; a mount point would show here, as would a changed home.
  const listing = 'sync; find / -xdev -newer /tmp/.installer-begin -not -path "/var/*" -not -path "/tmp*" 2>/dev/null | sort'
  const mounts = 'cut -d" " -f1-3 /proc/self/mounts'
  await inGuest('touch /tmp/.installer-begin')
  const before = {
    mounts: await inGuest(mounts),
    run: await inGuest('ls -A /run'),
    home: await inGuest('ls -lARn --time-style=full-iso /root'),
  }

  expect(await cloud.migrationAgent.inspect?.({ vmId, bundleDirectory: agentBundleDirectory })).toEqual([])
  const install = { operationId: randomUUID(), vmId, bundleDirectory: agentBundleDirectory, inject: [bootstrap] }
  const started = performance.now()
  await cloud.migrationAgent.install(install)
  console.info(`installed in ${Math.round(performance.now() - started)} ms`)
  const agent = await inGuest('cat /run/portolan-agent/process')
  await cloud.migrationAgent.install(install)
  expect(await inGuest('cat /run/portolan-agent/process')).toBe(agent)

  expect(await inGuest(`readlink /proc/${agent.split(' ')[0]}/exe`)).toBe('/run/portolan-agent/lib/ld-linux-x86-64.so.2')
  expect(await inGuest(`ls -l /proc/${agent.split(' ')[0]}/fd | grep -cE " (/root|/var|/tmp|/home|/etc)" `)).toBe('0')
  expect(await inGuest('stat -c %a /run/portolan-agent /run/portolan-agent/bootstrap.json')).toBe('700\n600')
  console.info(await inGuest('cat /run/portolan-agent/agent.log; df -k /run/portolan-agent; grep -E "MemAvailable" /proc/meminfo'))

  await cloud.migrationAgent.uninstall({ operationId: randomUUID(), vmId })
  await cloud.migrationAgent.uninstall({ operationId: randomUUID(), vmId })
  expect({
    mounts: await inGuest(mounts),
    run: await inGuest('ls -A /run'),
    home: await inGuest('ls -lARn --time-style=full-iso /root'),
  }).toEqual(before)
  expect(await inGuest('ls -l /proc/[0-9]*/exe 2>/dev/null | grep -c portolan')).toBe('0')
  expect(await inGuest(listing)).not.toContain('portolan')
})
