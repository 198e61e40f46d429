import { cpus, totalmem } from 'node:os'
import type { ProviderConnection } from '../../src/plugin-sdk/index.ts'
import { freeDiskBytes, freeMemoryBytes } from './capacity.ts'
import { boundConsole } from './console.ts'
import { describeMachine } from './describe.ts'
import { userNetwork } from './machine.ts'
import { findProcesses, processOf } from './qemu-process.ts'
import type { Site } from './site.ts'
import { atSite } from './state-directory.ts'
import { describeStorages } from './storages.ts'

/** One region, one zone, one host, named by the options; the user-mode network; all VMs. */
export function discoverTopology(site: Site): ProviderConnection['discoverTopology'] {
  return ({ signal }) => atSite(site.options.stateDirectory, () => topologyOf(site, signal))
}

async function topologyOf(site: Site, signal: AbortSignal | undefined): ReturnType<ProviderConnection['discoverTopology']> {
  const { region, zone, host, maxMemoryBytes } = site.options
  const [machines, processes] = await Promise.all([site.store.list(), findProcesses()])
  const hostDescription = {
    id: host,
    name: host,
    architecture: 'x86_64' as const,
    cpuCount: cpus().length,
    memoryBytes: Math.min(totalmem(), maxMemoryBytes ?? Infinity),
    freeDiskBytes: await freeDiskBytes(site),
    freeMemoryBytes: await freeMemoryBytes(site),
    ...(await describeStorages(site.options, (storageId) => freeDiskBytes(site, storageId))),
  }
  return {
    regions: [{ id: region, name: region, zones: [{ id: zone, name: zone, hosts: [hostDescription] }] }],
    networks: [
      {
        id: userNetwork.id,
        name: userNetwork.name,
        subnets: [{ id: `${userNetwork.id}-subnet`, name: userNetwork.cidr, cidr: userNetwork.cidr }],
        controlPlaneFromGuest: userNetwork.hostAddress,
      },
    ],
    virtualMachines: await Promise.all(
      machines.map(async (machine) => {
        // What is asked every now and then keeps a talkative guest from filling the disk.
        await boundConsole(site, machine.vmId, signal)
        return describeMachine(site, machine, await processOf(site.store.directoryOf(machine.vmId), processes), signal)
      }),
    ),
  }
}
