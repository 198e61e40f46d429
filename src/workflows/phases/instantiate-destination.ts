import { PortolanError } from '../../domain/errors.ts'
import type { MigrationRequest } from '../../domain/migration-request.ts'
import { storageFor } from '../../domain/placement.ts'
import {
  ProviderError,
  type InjectedFile,
  type ProviderConnection,
  type Topology,
  type VirtualMachineDescription,
} from '../../plugin-sdk/index.ts'
import { agentAddresses, bootstrapFile } from '../agent-addresses.ts'
import { requireKeptCopy } from '../kept-copy-check.ts'
import { transferPort } from '../migration-settings.ts'
import type { Phase, PhaseContext, PhaseResults } from '../phase.ts'
import { providerIdOf, rowIdOf } from '../row-ids.ts'
import { destinationVmId, sourceVmId } from './phase-facts.ts'
import { recordAbandoned } from './record-abandoned.ts'
import { putRecord } from './site-records.ts'

export const instantiateDestination: Phase = {
  name: 'INSTANTIATE_DESTINATION',
  control: 'PAUSABLE',
  timeoutMs: 10 * 60_000,
  async do(context) {
    const { signal, migration } = context
    const [source, destination] = await Promise.all([context.source(), context.destination()])
    const vm = await source.virtualMachines.describe({ vmId: sourceVmId(context), signal })
    const topology = await destination.discoverTopology({ signal })
    const begun = context.results.INSTANTIATE_DESTINATION ?? (await begin(context, topology, vm))
    await putRecord(context, 'started', { uniqueId: vm.uniqueId })
    const kept = begun.takenUp ? begun.vmId : null
    const vmId = kept ? await takeUp(context, kept, topology, vm) : (await createLandingVm(context, destination, topology, vm)).vmId
    await putRecord(context, 'placeholder', { uniqueId: vm.uniqueId, vmId })
    await context.settings.refreshTopology(migration.destinationCloudId, signal)
    const destinationVirtualMachineId = rowIdOf(migration.destinationCloudId, vmId)
    await endOtherCopies(context, destinationVirtualMachineId)
    await context.store.write(migration, {
      patch: {
        destinationVirtualMachineId,
        diskBytes: vm.disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      },
    })
    return { outcome: 'DONE', result: { uniqueId: vm.uniqueId, vmId, takenUp: begun.takenUp } }
  },
  /** What was copied is kept, powered off: a retry begins with it. */
  async undo(context) {
    const begun = context.results.INSTANTIATE_DESTINATION
    if (!begun) return
    const { signal, migration } = context
    await recordAbandoned(context)
    const destination = await context.destination()
    const { virtualMachines } = await destination.discoverTopology({ signal })
    const vm = virtualMachines.find(({ id, uniqueId }) => (begun.vmId ? id === begun.vmId : uniqueId === begun.uniqueId))
    const worthKeeping = begun.takenUp || (await context.store.bytesSent(migration, migration.attempt)) > 0
    if (vm && worthKeeping) await powerOff(context, vm.id)
    else if (vm) await destination.destination.delete({ operationId: context.operationId('delete'), vmId: vm.id, signal })
    const copyKept = vm !== undefined && worthKeeping
    await context.store.write(migration, {
      patch: { copyKept, destinationVirtualMachineId: copyKept ? rowIdOf(migration.destinationCloudId, vm.id) : null },
    })
    await context.settings.refreshTopology(migration.destinationCloudId, signal)
  },
}

/** A provider may use an id again: what another migration kept under this one is gone, or would have been refused as a twin. */
async function endOtherCopies({ store, migration }: PhaseContext, virtualMachineId: string): Promise<void> {
  for (const other of await store.othersKeeping(virtualMachineId, migration))
    await store.write(other, {
      patch: { copyKept: false, destinationVirtualMachineId: null },
      events: [
        { kind: 'NOTICE', message: `The copy is gone from the destination; what has its id there now is migration ${migration.id}'s.` },
      ],
    })
}

async function powerOff(context: PhaseContext, vmId: string): Promise<void> {
  const { virtualMachines } = await context.destination()
  const { signal } = context
  try {
    await virtualMachines.stop({ operationId: context.operationId('stop'), vmId, force: true, signal })
  } catch (error) {
    // A full site can't write down that it did it. That it is off is what counts.
    if (!(error instanceof ProviderError && error.code === 'INSUFFICIENT_CAPACITY')) throw error
    if ((await virtualMachines.describe({ vmId, signal })).power !== 'STOPPED') throw error
  }
}

/** From here on a VM there with this unique id is ours; one that was there before is not, but for the copy that an earlier attempt kept. */
async function begin(
  context: PhaseContext,
  topology: Topology,
  vm: VirtualMachineDescription,
): Promise<PhaseResults['INSTANTIATE_DESTINATION']> {
  const { migration } = context
  const keptId =
    migration.copyKept && migration.destinationVirtualMachineId
      ? providerIdOf(migration.destinationCloudId, migration.destinationVirtualMachineId)
      : null
  const kept = topology.virtualMachines.find(({ id, uniqueId }) => id === keptId && uniqueId === vm.uniqueId)
  if (kept) await requireKeptCopy(migration, await context.destination(), context.signal)
  else refuseTwin(topology, vm)
  const begun: PhaseResults['INSTANTIATE_DESTINATION'] = { uniqueId: vm.uniqueId, vmId: kept?.id ?? null, takenUp: kept !== undefined }
  await context.keep('INSTANTIATE_DESTINATION', begun, { copyKept: false })
  if (keptId && !kept) await context.note('The copy that an earlier attempt kept is gone from the destination; this one begins anew.')
  return begun
}

export function haveSameDisks(one: VirtualMachineDescription, other: VirtualMachineDescription): boolean {
  const sizes = ({ disks }: VirtualMachineDescription) => disks.map(({ index, sizeBytes }) => `${index}:${sizeBytes}`).join()
  return sizes(one) === sizes(other)
}

/** The landing image boots over the disks as an earlier attempt left them. */
async function takeUp(context: PhaseContext, vmId: string, topology: Topology, vm: VirtualMachineDescription): Promise<string> {
  const { signal } = context
  const kept = topology.virtualMachines.find(({ id }) => id === vmId)
  if (kept && !haveSameDisks(kept, vm))
    throw new PortolanError('CONFLICT', 'The disks of the source have other sizes than those of the kept copy; nothing was changed.', {
      retryable: false,
      remedy: 'Discard the copy, and start another migration.',
    })
  const { destination } = await context.destination()
  await destination.discardOverlay({
    operationId: context.operationId('take-up'),
    vmId,
    inject: await bootstrap(context, topology, vm),
    signal,
  })
  await context.note('Goes on with the copy that an earlier attempt kept: what is there already is compared, and not sent again.')
  return vmId
}

/** The landing image again, over the disks as they are, with a bootstrap for an agent that begins anew. `call` must be another one each time. */
export async function bootLandingAgain(context: PhaseContext, call: string): Promise<void> {
  const { signal } = context
  const [source, { destination, discoverTopology }] = await Promise.all([context.source(), context.destination()])
  const [vm, topology] = await Promise.all([
    source.virtualMachines.describe({ vmId: sourceVmId(context), signal }),
    discoverTopology({ signal }),
  ])
  const inject = await bootstrap(context, topology, vm)
  await destination.discardOverlay({ operationId: context.operationId(call), vmId: destinationVmId(context), inject, signal })
}

/** For the landing image of a VM that is there already, or of one that is to be made for `vm`. */
export async function bootstrap(context: PhaseContext, topology: Topology, vm: VirtualMachineDescription): Promise<InjectedFile[]> {
  const there = topology.virtualMachines.find(({ uniqueId }) => uniqueId === vm.uniqueId)
  const first = vm.nics[0]
  const networkId = there ? there.nics[0]?.networkId : first && destinationNetwork(context, topology, first.networkId)
  const suggested = topology.networks.find(({ id }) => id === networkId)?.controlPlaneFromGuest
  const agents = await context.agents()
  return [bootstrapFile(agents.bootstrap('DESTINATION', agentAddresses(context.settings, suggested)))]
}

function refuseTwin(topology: Topology, vm: VirtualMachineDescription): void {
  const twin = topology.virtualMachines.find(({ uniqueId }) => uniqueId === vm.uniqueId)
  if (!twin) return
  throw new PortolanError(
    'CONFLICT',
    `The destination has a virtual machine (${twin.name}) with the unique id ${vm.uniqueId} already; it was left alone.`,
    {
      retryable: false,
      remedy: 'Retry or discard the migration that keeps it as its copy; delete it there if it is a leftover of an earlier move.',
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
  return destination.destination.instantiate({
    operationId: context.operationId('instantiate'),
    signal,
    virtualMachine: {
      name: vm.name,
      uniqueId: vm.uniqueId,
      cpuCount: vm.cpuCount,
      memoryBytes: vm.memoryBytes,
      firmware: 'BIOS',
      disks: vm.disks.map((disk) => placed(disk, migration.request.storageMap)),
      nics,
    },
    landing: settings.artifacts.landing,
    inject: await bootstrap(context, topology, vm),
    inboundPorts: [transferPort, migration.request.healthCheck.port],
  })
}

function placed(disk: VirtualMachineDescription['disks'][number], storageMap: MigrationRequest['storageMap'] = []) {
  const storageId = storageFor(disk, storageMap)
  const { index, sizeBytes } = disk
  return { index, sizeBytes, ...(storageId !== null && { storageId }) }
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
