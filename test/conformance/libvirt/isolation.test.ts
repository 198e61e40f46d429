/** What an isolated guest reaches, tried from inside it; and domains that somebody else made. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import plugin from '../../../plugins/libvirt/index.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'
import { artifacts, guestMemoryBytes, readGuestAccess } from '../../../setup/artifacts.ts'
import { startPrivateLibvirt, type PrivateLibvirt } from '../../../src/cli/private-site/start-private-libvirt.ts'
import type { ProviderConnection } from '../../../src/plugin-sdk/index.ts'
import { openSshSession } from '../../../src/plugin-sdk/installers/ssh-session.ts'

const vmId = '0d1e2f30-1111-4222-8333-444455556666'
let directory: string
let site: PrivateLibvirt
let cloud: ProviderConnection
let listener: Server
let listenerPort: number

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-isolation-'))
  site = await startPrivateLibvirt({ directory })
  const options = libvirtOptions.parse({ uri: site.uri, consoleDirectory: site.consoleDirectory })
  cloud = await plugin.connect(options, { signal: new AbortController().signal, log: () => undefined })
  // On every address of this network namespace, as an incautious service would.
  listener = createServer((socket) => socket.end('reached\n')).listen(0, '0.0.0.0')
  await once(listener, 'listening')
  const address = listener.address()
  listenerPort = typeof address === 'object' && address ? address.port : 0
})
afterAll(async () => {
  listener?.close()
  await site?.stop()
  await rm(directory, { recursive: true, force: true })
})

test('an isolated guest answers us and reaches nothing; exposed, it reaches its gateway again', async () => {
  const sizeBytes = (await stat(artifacts().tinyImage)).size
  await cloud.virtualMachines.create!({
    operationId: 'create',
    virtualMachine: {
      name: 'isolated',
      uniqueId: vmId,
      cpuCount: 1,
      memoryBytes: guestMemoryBytes,
      firmware: 'BIOS',
      disks: [{ index: 0, sizeBytes }],
      nics: [{ index: 0, mac: '52:54:00:11:22:33', networkId: 'default' }],
    },
    imagePath: artifacts().tinyImage,
    inboundPorts: [],
  })
  await cloud.virtualMachines.start({ operationId: 'start', vmId })
  const { controlPlaneFromGuest: gateway } = await cloud.network.reachability({ vmId, guestPort: 22 })
  expect(await dial(gateway!), 'before it is isolated').toBe('reached')

  await cloud.network.isolate({ operationId: 'isolate', vmId })
  const isolated = await cloud.network.reachability({ vmId, guestPort: 22 })
  expect(isolated.controlPlaneFromGuest).toBeNull()
  // The isolated subnet's first address is this machine's.
  const host = isolated.fromControlPlane!.host.replace(/\d+$/, (last) => String(Number(last) - 1))
  expect(await dial(host), 'the host, on the isolated network').toBe('nothing')
  expect(await dial(gateway!, host), "the host's address on the VM's own network, by a route of the guest's own").toBe('nothing')

  await cloud.network.expose({ operationId: 'expose', vmId })
  expect(await dial(gateway!), 'exposed').toBe('reached')
  expect((await cloud.network.reachability({ vmId, guestPort: 22 })).controlPlaneFromGuest).toBe(gateway)
  // The workload says so on its first serial line, which libvirt logs and gives.
  expect((await cloud.virtualMachines.console!({ vmId })).text).toMatch(/workload: port 8080/)
  await cloud.virtualMachines.delete!({ operationId: 'delete', vmId })
})

/** Logs in to the guest, as soon as it answers, and dials the listener from there. */
async function dial(address: string, via?: string): Promise<string> {
  const route = via === undefined ? '' : `ip route add ${address}/32 via ${via} 2>/dev/null;`
  for (let attempt = 1; ; attempt++) {
    const { fromControlPlane: endpoint } = await cloud.network.reachability({ vmId, guestPort: 22 })
    try {
      if (!endpoint) throw new Error('The guest has no address yet.')
      const session = await openSshSession({ endpoint, ...readGuestAccess() }, AbortSignal.timeout(60_000))
      try {
        const { stdout } = await session.run(
          `${route} timeout 5 bash -c 'cat </dev/tcp/${address}/${listenerPort}' 2>/dev/null || echo nothing`,
        )
        return stdout.trim()
      } finally {
        await session.close()
      }
    } catch (error) {
      if (attempt === 90) throw error
      await pause(1000)
    }
  }
}

test("somebody else's domain is described as it is, and not deleted", async () => {
  const file = join(directory, 'foreign.xml')
  const uuid = '99999999-1111-4222-8333-444455556666'
  await writeFile(file, foreignDomain(uuid))
  await promisify(execFile)('virsh', ['--connect', site.uri, 'define', '--file', file])
  const found = (await cloud.discoverTopology({})).virtualMachines.find(({ id }) => id === uuid)
  expect(found).toMatchObject({
    name: 'made "by hand" & <old>',
    power: 'STOPPED',
    firmware: 'UEFI',
    cpuCount: 3,
    memoryBytes: 2 * 1024 ** 3,
    disks: [
      // libvirt's own order: by bus, then by letter.
      { id: 'sda', index: 0, bus: 'sata', backingPath: '/nowhere/data.qcow2' },
      { id: 'vda', index: 1, bus: 'virtio', backingPath: '/nowhere/root.raw' },
    ],
    nics: [
      { index: 0, mac: '52:54:00:ab:cd:01', networkId: 'default', addresses: [] },
      { index: 1, mac: '52:54:00:ab:cd:02', networkId: 'bridge:br7' },
    ],
  })
  await expect(cloud.virtualMachines.console!({ vmId: uuid })).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  await expect(cloud.destination.delete({ operationId: 'no', vmId: uuid })).rejects.toMatchObject({ code: 'CONFLICT' })
  expect((await cloud.virtualMachines.describe({ vmId: uuid })).power).toBe('STOPPED')
})

function foreignDomain(uuid: string): string {
  return `<domain type='qemu'>
  <name>made &quot;by hand&quot; &amp; &lt;old&gt;</name><uuid>${uuid}</uuid><memory unit='GiB'>2</memory><vcpu current='3'>4</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><loader readonly='yes' type='pflash'>/nowhere/OVMF_CODE.fd</loader></os><features><acpi/></features>
  <devices>
    <disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/nowhere/root.raw'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/nowhere/data.qcow2'/><target dev='sda' bus='sata'/></disk>
    <interface type='network'><mac address='52:54:00:AB:CD:01'/><source network='default'/><model type='e1000e'/></interface>
    <interface type='bridge'><mac address='52:54:00:ab:cd:02'/><source bridge='br7'/><model type='virtio'/></interface>
  </devices>
</domain>`
}
