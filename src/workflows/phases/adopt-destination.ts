import { attemptFenceId, isFenceOfAttempt } from '../../domain/fence-id.ts'
import { PortolanError } from '../../domain/errors.ts'
import type { ProviderConnection } from '../../plugin-sdk/index.ts'
import { transferPort } from '../migration-settings.ts'
import type { Phase, PhaseContext } from '../phase.ts'
import { providerIdOf } from '../row-ids.ts'
import { bootstrap, haveSameDisks } from './instantiate-destination.ts'
import { sourceVmId } from './phase-facts.ts'
import { recordAbandoned } from './record-abandoned.ts'
import { putRecord } from './site-records.ts'

/** In place of making one: the machine that an earlier migration left receives what differs, above its own disks. */
export const adoptDestination: Phase = {
  name: 'INSTANTIATE_DESTINATION',
  control: 'PAUSABLE',
  timeoutMs: 10 * 60_000,
  async do(context) {
    const { signal, migration, settings } = context
    const vmId = leftVmId(context)
    const [source, destination] = await Promise.all([context.source(), context.destination()])
    const vm = await source.virtualMachines.describe({ vmId: sourceVmId(context), signal })
    const topology = await destination.discoverTopology({ signal })
    const left = topology.virtualMachines.find(({ id, uniqueId }) => id === vmId && uniqueId === vm.uniqueId)
    if (!left || !haveSameDisks(left, vm)) throw notTheSame(vm.name, left !== undefined)
    const begun = { uniqueId: vm.uniqueId, vmId, takenUp: true }
    await context.keep('INSTANTIATE_DESTINATION', begun)
    await putRecord(context, 'started', { uniqueId: vm.uniqueId })
    await adoptionOf(destination).start({
      operationId: context.operationId('adopt'),
      vmId,
      fenceId: await fenceLeft(context, destination, vmId),
      landing: settings.artifacts.landing,
      inject: await bootstrap(context, topology, vm),
      inboundPorts: [transferPort, migration.request.healthCheck.port],
      signal,
    })
    await putRecord(context, 'placeholder', { uniqueId: vm.uniqueId, vmId })
    await settings.refreshTopology(migration.destinationCloudId, signal)
    await context.store.write(migration, { patch: { diskBytes: vm.disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) } })
    return { outcome: 'DONE', result: begun }
  },
  /** What was received goes, and the machine is off and fenced as it was left. */
  async undo(context) {
    if (!context.results.INSTANTIATE_DESTINATION) return
    const { signal, migration } = context
    await recordAbandoned(context)
    await adoptionOf(await context.destination()).giveBack({
      operationId: context.operationId('give-back'),
      vmId: leftVmId(context),
      signal,
    })
    await context.settings.refreshTopology(migration.destinationCloudId, signal)
  },
}

function leftVmId({ migration }: PhaseContext): string {
  return providerIdOf(migration.destinationCloudId, migration.destinationVirtualMachineId ?? '')
}

/** Whichever switchover of the migration that left it armed it, or a reconciliation. */
async function fenceLeft(
  { migration, store, signal }: PhaseContext,
  { fencing }: ProviderConnection,
  vmId: string,
): Promise<string | null> {
  const armed = (await fencing?.confirm({ vmId, signal }))?.fenceId ?? null
  const attemptId = attemptFenceId(await store.read(migration.rollsBackMigrationId ?? ''))
  return armed !== null && isFenceOfAttempt(armed, attemptId) ? armed : null
}

function adoptionOf({ destination }: ProviderConnection) {
  if (destination.adopt) return destination.adopt
  throw new PortolanError('UNSUPPORTED', 'The provider of the machine that was left has no destination.adopt any more.', {
    retryable: false,
    remedy: 'Put back the version of the plugin that has it.',
  })
}

function notTheSame(name: string, isThere: boolean): PortolanError {
  const why = isThere ? 'has disks of other sizes by now' : 'is gone'
  return new PortolanError(
    'CONFLICT',
    `The machine that ${name} had left ${why}, so nothing can be carried back to it; nothing was changed.`,
    {
      retryable: false,
      remedy: 'Start an ordinary migration to that cloud.',
    },
  )
}
