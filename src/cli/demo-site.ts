/**
 * The demo's two clouds, and the busy VM in one of them. This is what stands before the demo begins, as your own VMs would; the demo itself
 * talks to the GraphQL API only.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { guestMemoryBytes, readGuestAccess } from '../../setup/artifacts.ts'
import type { Endpoint, ProviderConnection } from '../plugin-sdk/index.ts'
import { openPluginRegistry, type PluginRegistry } from '../plugin-sdk/registry/plugin-registry.ts'
import { startPrivateLibvirt } from './private-site/start-private-libvirt.ts'

export interface DemoCloud {
  name: 'east' | 'west'
  pluginId: 'qemu' | 'libvirt'
  /** What `connectCloud` is given. */
  options: Record<string, unknown>
  /** For making and removing the demo's VMs outside the API. */
  connection: ProviderConnection
}

export interface DemoSite {
  east: DemoCloud
  west: DemoCloud
  /** Where migration agents of both clouds' guests reach this machine. */
  agentAddresses: string[]
  /** Boots a VM from an image such as the set-up's, and waits for its workload. */
  bootSource(cloud: DemoCloud, image: string, from?: SourceStart): Promise<SourceMachine>
  /** Ends every VM and server that was made here. */
  close(): Promise<void>
}

export interface SourceMachine {
  vmId: string
  uniqueId: string
  workload: Endpoint
  bootMs: number
}

/** For a machine that continues what another one has begun. */
export interface SourceStart {
  uniqueId: string
  mac: string
  /** In place of the provider's own start. */
  start(vmId: string): Promise<void>
}

const workloadPort = 8080
/** The configuration's `plugins` for both clouds. */
export const demoPlugins = ['qemu', 'libvirt'].map((id) => join(import.meta.dirname, '../../plugins', id))

/** @param libvirtUri a libvirt of the user's, used as it is; null starts a private one below `directory`. @param eastOptions further ones of the qemu cloud. */
export async function openDemoSite(
  directory: string,
  libvirtUri: string | null,
  eastOptions: Record<string, unknown> = {},
): Promise<DemoSite> {
  await mkdir(directory, { recursive: true })
  const libvirt = libvirtUri === null ? await startPrivateLibvirt({ directory: join(directory, 'libvirt') }) : null
  const guestAccess = [{ match: '*', ...readGuestAccess() }]
  const registry = await openPluginRegistry(demoPlugins, { log: () => {} })
  const [east, west] = await Promise.all([
    openCloud(registry, 'east', 'qemu', { stateDirectory: join(directory, 'east'), guestAccess, ...eastOptions }),
    openCloud(registry, 'west', 'libvirt', {
      uri: libvirt?.uri ?? libvirtUri,
      guestAccess,
      ...(libvirt && { consoleDirectory: libvirt.consoleDirectory }),
    }),
  ])
  const networks = (await Promise.all([east, west].map((cloud) => cloud.connection.discoverTopology({})))).flatMap(
    (topology) => topology.networks,
  )

  return {
    east,
    west,
    agentAddresses: networks.map((network) => network.controlPlaneFromGuest ?? null).filter((address) => address !== null),
    async bootSource(cloud, image, from) {
      const started = performance.now()
      const uniqueId = from?.uniqueId ?? randomUUID()
      const network = (await cloud.connection.discoverTopology({})).networks[0]
      if (network === undefined)
        throw new Error(`The cloud ${cloud.name} has no network for the demo's VM. Define one and run the demo again.`)
      if (cloud.connection.virtualMachines.create === undefined)
        throw new Error(`The plugin ${cloud.pluginId} cannot create the demo's VM from an image.`)
      const { vmId } = await cloud.connection.virtualMachines.create({
        operationId: `demo-${randomUUID()}`,
        imagePath: image,
        inboundPorts: [22, workloadPort],
        virtualMachine: {
          name: `demo-${uniqueId.slice(0, 8)}`,
          uniqueId,
          cpuCount: 1,
          memoryBytes: guestMemoryBytes,
          firmware: 'BIOS',
          disks: [{ index: 0, sizeBytes: (await stat(image)).size }],
          nics: [{ index: 0, mac: from?.mac ?? randomMac(), networkId: network.id }],
        },
      })
      if (from) await from.start(vmId)
      else await cloud.connection.virtualMachines.start({ operationId: `demo-start-${randomUUID()}`, vmId })
      const workload = await waitForWorkload(cloud.connection, vmId)
      return { vmId, uniqueId, workload, bootMs: performance.now() - started }
    },
    async close() {
      for (const { connection } of [east, west]) {
        const { virtualMachines } = await connection.discoverTopology({}).catch(() => ({ virtualMachines: [] }))
        // A user's own libvirt may hold other VMs: only those of the demo go.
        for (const vm of virtualMachines.filter(({ name }) => name.startsWith('demo-')))
          await connection.virtualMachines.delete?.({ operationId: `demo-delete-${vm.id}`, vmId: vm.id })
        await connection.close()
      }
      await registry.close()
      await libvirt?.stop()
    },
  }
}

export function randomMac(): string {
  return `52:54:00:${randomBytes(3).toString('hex').match(/../g)!.join(':')}`
}

async function openCloud(
  registry: PluginRegistry,
  name: DemoCloud['name'],
  pluginId: DemoCloud['pluginId'],
  options: Record<string, unknown>,
): Promise<DemoCloud> {
  const { connection } = await registry.connect(pluginId, options)
  return { name, pluginId, options, connection }
}

async function waitForWorkload(connection: ProviderConnection, vmId: string): Promise<Endpoint> {
  const deadline = performance.now() + 180_000
  while (performance.now() < deadline) {
    const { fromControlPlane } = await connection.network.reachability({ vmId, guestPort: workloadPort })
    if (fromControlPlane && (await answers(fromControlPlane))) return fromControlPlane
    await new Promise((done) => setTimeout(done, 500))
  }
  throw new Error("The demo's source VM did not answer on port 8080 within 180 s. Look at its serial console, then run the demo again.")
}

async function answers({ host, port }: Endpoint): Promise<boolean> {
  try {
    return (await fetch(`http://${host}:${port}/health`, { signal: AbortSignal.timeout(5_000) })).ok
  } catch {
    return false
  }
}
