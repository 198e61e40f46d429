/** A rollback that loses nothing: a migration of its own from the destination of a completed one, which serves meanwhile, to the source that was left. */
import { PortolanError } from '../domain/errors.ts'
import type { MigrationRequest } from '../domain/migration-request.ts'
import { requireAllowedAfterEnd } from '../domain/operator-actions.ts'
import type { CloudConnections } from './cloud-connections.ts'
import type { MigrationStart, PreparedMigration } from './migration-start.ts'
import type { MigrationRow } from './migration-store.ts'
import { providerIdOf } from './row-ids.ts'

export interface CarryBack {
  /** Throws PortolanError where the source that was left can't take the writes back; ProviderError where its cloud can't be asked. Nothing was changed then. */
  prepare(of: MigrationRow): Promise<PreparedMigration>
}

const checkTimeoutMs = 120_000

export function createCarryBack({
  connections,
  start,
}: {
  connections: Pick<CloudConnections, 'connection'>
  start: Pick<MigrationStart, 'prepare'>
}): CarryBack {
  return {
    async prepare(of) {
      requireAllowedAfterEnd('ROLL_BACK', of)
      if ((of.request.addressing ?? []).length > 0)
        throw refusal(
          'UNSUPPORTED',
          `Migration ${of.id} gave the guest other addresses, which would come back with its writes.`,
          'Roll back without carrying writes back, or give the guest its former addresses and start a migration.',
        )
      const signal = AbortSignal.timeout(checkTimeoutMs)
      const { destination, virtualMachines } = await connections.connection(of.sourceCloudId, signal)
      if (!destination.adopt)
        throw refusal(
          'UNSUPPORTED',
          'The provider of the source that was left has no destination.adopt, so nothing can be carried back to it.',
          'Roll back without carrying writes back, and copy what you need by hand.',
        )
      const { power } = await virtualMachines.describe({ vmId: providerIdOf(of.sourceCloudId, of.sourceVirtualMachineId), signal })
      if (power !== 'STOPPED')
        throw refusal(
          'CONFLICT',
          `The source that was left is ${power}, not off.`,
          "See the migration's verdict for which copy is the live one.",
        )
      return start.prepare(requestBack(of), null, of)
    },
  }
}

/** As the first time, the other way round; whoever rolls back wants it now. */
function requestBack({ request, ...of }: MigrationRow): MigrationRequest {
  const { nonConvergencePolicy } = request
  const bandwidth = of.bandwidth ?? request.bandwidth
  return {
    sourceVirtualMachineId: of.destinationVirtualMachineId ?? '',
    destinationCloudId: of.sourceCloudId,
    networkMap: [],
    permittedDowntimeMs: of.permittedDowntimeMs,
    cutoverPolicy: 'AUTOMATIC',
    ...(nonConvergencePolicy && { nonConvergencePolicy }),
    ...(bandwidth && { bandwidth }),
    healthCheck: request.healthCheck,
  }
}

function refusal(code: 'UNSUPPORTED' | 'CONFLICT', why: string, remedy: string): PortolanError {
  return new PortolanError(code, `${why} Nothing was changed.`, { retryable: false, remedy, path: ['input', 'carryWritesBack'] })
}
