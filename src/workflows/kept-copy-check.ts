/** Whether what bears a kept copy's id is that copy still: ids are used again, and an administrator may have started it to save what is in it. */
import { PortolanError } from '../domain/errors.ts'
import { recordKeyPrefix } from '../domain/migration-record.ts'
import { decideVerdict } from '../domain/verdict.ts'
import { ProviderError, type ProviderConnection } from '../plugin-sdk/index.ts'
import { failureOf } from './failure.ts'
import type { MigrationRow } from './migration-store.ts'
import { providerIdOf } from './row-ids.ts'
import { attemptsIn, type SiteAttempt } from './verdict-records.ts'

/** Throws PortolanError where the machine may be a live one, or its cloud can't tell; retryable where that may pass. A copy that is gone passes. It only looks. */
export async function requireKeptCopy(migration: MigrationRow, site: ProviderConnection, signal: AbortSignal): Promise<void> {
  const { id, destinationCloudId, destinationVirtualMachineId } = migration
  if (!destinationVirtualMachineId) return
  const vmId = providerIdOf(destinationCloudId, destinationVirtualMachineId)
  try {
    await requireNotMovedTo(vmId, migration, site, signal)
    await requireOff(vmId, site, signal)
  } catch (error) {
    const { code, message, retryable, remedy } = failureOf(error)
    throw new PortolanError(code, `The copy that migration ${id} keeps is left alone: ${message} Nothing was changed.`, {
      retryable,
      remedy,
      path: ['input', 'migrationId'],
    })
  }
}

/** Not only our own migrations: another control plane may use that site, or this one by another name. */
async function requireNotMovedTo(
  vmId: string,
  { id: migrationId, attempt, state, endState }: MigrationRow,
  { records }: ProviderConnection,
  signal: AbortSignal,
): Promise<void> {
  const attempts = attemptsIn(await records.list({ keyPrefix: recordKeyPrefix, signal })).filter((attempt) => attempt.vmId === vmId)
  const moved = attempts.filter(({ records: found }) => decideVerdict(found).verdict === 'MIGRATED')
  // Where that site was given up as dead, nobody could write down there that it was rolled back.
  const isRolledBack = (found: SiteAttempt) => found.attempt === attempt && (state === 'ROLLED_BACK' || endState === 'ROLLED_BACK')
  const own = moved.find((found) => found.migrationId === migrationId && !isRolledBack(found))
  if (own)
    throw conflict(
      `The machine ${vmId} is no copy but what the migration moved, by the record of its attempt ${own.attempt}, which this control plane's database doesn't know, as where a backup was put back.`,
      'Read migrationVerdicts of the destination cloud: what is true of the machine is in its records.',
    )
  const keptSince = Math.max(...attempts.filter((attempt) => attempt.migrationId === migrationId).map(({ startedAt }) => startedAt))
  const later = moved.find((attempt) => attempt.startedAt > keptSince)
  if (later)
    throw conflict(`The machine ${vmId} is what migration ${later.migrationId} made since.`, 'There is nothing to do: the copy is gone.')
}

async function requireOff(vmId: string, { virtualMachines }: ProviderConnection, signal: AbortSignal): Promise<void> {
  try {
    const { power } = await virtualMachines.describe({ vmId, signal })
    // Whatever keeps one powers it off, its landing image included.
    if (power !== 'STOPPED')
      throw conflict(`It is ${power}, not off.`, 'See what uses it; if it is to go, power it off, then try again.', power === 'UNKNOWN')
  } catch (error) {
    if (!(error instanceof ProviderError && error.code === 'NOT_FOUND')) throw error
  }
}

function conflict(message: string, remedy: string, retryable = false): ProviderError {
  return new ProviderError('CONFLICT', message, { retryable, remedy })
}
