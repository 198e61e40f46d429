import { PortolanError } from '../../domain/errors.ts'
import type { ProviderConnection, Topology, VirtualMachineDescription } from '../../plugin-sdk/index.ts'
import { agentAddresses, bootstrapFile } from '../agent-addresses.ts'
import { transferPort } from '../migration-settings.ts'
import type { Phase, PhaseContext, PhaseResults } from '../phase.ts'
import { providerIdOf, rowIdOf } from '../row-ids.ts'
import { sourceVmId } from './phase-facts.ts'
import { putStartedRecord } from './site-records.ts'

export const instantiateDestination: Phase = {
  name: 'INSTANTIATE_DESTINATION',
  control: 'PAUSABLE',
  timeoutMs: 10 * 60_000,
  async do(context) {
    const { signal, migration } = context
    const [source, destination] = await Promise.all([context.source(), context.destination()])
    const vm = await source.virtualMachines.describe({ vmId: sourceVmId(context), signal })
    const topology = await destination.discoverTopology({ signal })
    // From here on a VM there with this unique id is ours to delete; one that was there before is not.
    if (!context.results.INSTANTIATE_DESTINATION) {
      refuseTwin(topology, vm)
      const begun: PhaseResults['INSTANTIATE_DESTINATION'] = { uniqueId: vm.uniqueId, vmId: null }
      await context.store.write(migration, { step: { phase: 'INSTANTIATE_DESTINATION', result: begun } })
    }
    await putStartedRecord(context, destination, vm.uniqueId)
    const { vmId } = await createLandingVm(context, destination, topology, vm)
    await context.settings.refreshTopology(migration.destinationCloudId, signal)
    await context.store.write(migration, {
      patch: {
        destinationVirtualMachineId: rowIdOf(migration.destinationCloudId, vmId),
        diskBytes: vm.disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      },
    })
    return { outcome: 'DONE', result: { uniqueId: vm.uniqueId, vmId } }
  },
  async undo(context) {
    const begun = context.results.INSTANTIATE_DESTINATION
    if (!begun) return
    const { signal, migration } = context
    const destination = await context.destination()
    const { virtualMachines } = await destination.discoverTopology({ signal })
    const vmId = begun.vmId ?? virtualMachines.find(({ uniqueId }) => uniqueId === begun.uniqueId)?.id
    if (vmId) await destination.destination.delete({ operationId: context.operationId('delete'), vmId, signal })
    await context.settings.refreshTopology(migration.destinationCloudId, signal)
  },
}

function refuseTwin(topology: Topology, vm: VirtualMachineDescription): void {
  const twin = topology.virtualMachines.find(({ uniqueId }) => uniqueId === vm.uniqueId)
  if (!twin) return
  throw new PortolanError(
    'CONFLICT',
    `The destination has a virtual machine (${twin.name}) with the unique id ${vm.uniqueId} already; it was left alone.`,
    {
      retryable: false,
      remedy: 'Delete it there if it is a leftover of an earlier move, then start again.',
    },
  )
}

async function createLandingVm(
  context: PhaseContext,
  destination: ProviderConnection,
  topology: Topology,
  vm: VirtualMachineDescription,
): Promise<{ vmId: string }> {
  const { signal, migration, settings } = context
  const nics = vm.nics.map(({ index, mac, networkId }) => ({ index, mac, networkId: destinationNetwork(context, topology, networkId) }))
  const suggested = topology.networks.find(({ id }) => id === nics[0]?.networkId)?.controlPlaneFromGuest
  const agents = await context.agents()
  return destination.destination.instantiate({
    operationId: context.operationId('instantiate'),
    signal,
    virtualMachine: {
      name: vm.name,
      uniqueId: vm.uniqueId,
      cpuCount: vm.cpuCount,
      memoryBytes: vm.memoryBytes,
      firmware: 'BIOS',
      disks: vm.disks.map(({ index, sizeBytes }) => ({ index, sizeBytes })),
      nics,
    },
    landing: settings.artifacts.landing,
    inject: [bootstrapFile(agents.bootstrap('DESTINATION', agentAddresses(settings, suggested)))],
    inboundPorts: [transferPort, migration.request.healthCheck.port],
  })
}

function destinationNetwork({ migration }: PhaseContext, topology: Topology, sourceNetworkId: string): string {
  const sourceRowId = rowIdOf(migration.sourceCloudId, sourceNetworkId)
  const mapped = migration.request.networkMap.find((entry) => entry.sourceNetworkId === sourceRowId)
  const id = mapped ? providerIdOf(migration.destinationCloudId, mapped.destinationNetworkId) : topology.networks[0]?.id
  if (id !== undefined) return id
  throw new PortolanError('NOT_FOUND', 'The destination has no network for an interface of the virtual machine.', {
    retryable: false,
    remedy: 'Make a network there, refresh the topology, and start again.',
  })
}
