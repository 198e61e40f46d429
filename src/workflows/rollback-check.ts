/** What a plain rollback needs before it changes anything: a source to go back to, and a destination that will be off when the source starts. */
import { and, asc, desc, eq, gt, inArray, isNull, ne, or } from 'drizzle-orm'
import type { Transaction } from '../database/client.ts'
import { migrations } from '../database/tables/migration.ts'
import { virtualMachines } from '../database/tables/topology.ts'
import { PortolanError } from '../domain/errors.ts'
import { attemptFenceId, isFenceOfAttempt } from '../domain/fence-id.ts'
import { attemptKeyPrefix } from '../domain/migration-record.ts'
import { ProviderError, type ProviderConnection } from '../plugin-sdk/index.ts'
import { failureOf, isOutOfReach } from './failure.ts'
import type { MigrationRow } from './migration-store.ts'
import type { PhaseResults } from './phase.ts'
import { providerIdOf } from './row-ids.ts'
import { attemptsIn } from './verdict-records.ts'

export interface RollbackSides {
  migration: MigrationRow
  /** Of the phases that led to the completion. */
  results: Partial<PhaseResults>
  source(): Promise<ProviderConnection>
  destination(): Promise<ProviderConnection>
  signal: AbortSignal
}

/** Throws PortolanError where there is nothing to go back to, or where nobody can see to it that the destination is off. It only looks. */
export async function requireBothSides(sides: RollbackSides): Promise<void> {
  await asked('The source that was left', () => requireSourceLeft(sides))
  await asked('The destination', () => requireDestinationInHand(sides))
}

/**
 * Null where its cloud answers that it has neither the machine nor another with its unique id, and shows by the attempt's commit that it is the site that the machine went
 * to: then there is nothing to be stopped. Throws CONFLICT for such another one, which may be the live copy, and for another site.
 */
export async function destinationPower({ migration, results, destination, signal }: Omit<RollbackSides, 'source'>) {
  const { uniqueId, vmId } = results.INSTANTIATE_DESTINATION ?? {}
  if (!vmId) throw new Error('The migration has no result of INSTANTIATE_DESTINATION.')
  const site = await destination()
  try {
    return (await site.virtualMachines.describe({ vmId, signal })).power
  } catch (error) {
    if (!isAbsent(error)) throw error
    const other = (await site.discoverTopology({ signal })).virtualMachines.find((vm) => vm.uniqueId === uniqueId)
    if (other) throw conflict(`It is gone, and its cloud has another machine with its unique id, ${other.id}.`)
    await requireCommittedThere(site, migration, signal)
    return null
  }
}

/** A plugin whose state is elsewhere, or another hypervisor at the same address, has no machine to show either, while the destination runs on. */
export async function requireCommittedThere(
  { records }: ProviderConnection,
  { id: migrationId, attempt }: MigrationRow,
  signal: AbortSignal,
) {
  const [found] = attemptsIn(await records.list({ keyPrefix: attemptKeyPrefix({ migrationId, attempt }), signal }))
  if (found?.records.outcome === 'COMMITTED') return
  throw conflict(
    'Neither the destination nor the record of its commit is there, so what answers is not the site that it went to.',
    "See that its cloud's plugin has the state directory and the hypervisor that the migration went to, then roll it back.",
  )
}

/** The fence in force there; `isOwn`: whichever switchover of the migration, or reconciliation, armed it. Null where there is none. */
export async function fenceAt({ fencing }: ProviderConnection, vmId: string, of: MigrationRow, signal: AbortSignal) {
  const id = (await fencing?.confirm({ vmId, signal }))?.fenceId ?? null
  return id === null ? null : { id, isOwn: isFenceOfAttempt(id, attemptFenceId(of)) }
}

/**
 * Throws PortolanError NOT_ALLOWED_NOW where a later migration took the machine on from there, and was not rolled back; and, unless the rollback carries writes back itself,
 * where a later one carried writes back: a plain rollback leaves that one's commit at the destination's site, and whoever has the records alone takes it for where the machine lives.
 */
export async function requireNewestMove(tx: Pick<Transaction, 'select'>, of: MigrationRow, carriesWritesBack: boolean): Promise<void> {
  const ends = [of.sourceVirtualMachineId, of.destinationVirtualMachineId ?? '']
  const known = tx.select({ uniqueId: virtualMachines.uniqueId }).from(virtualMachines).where(inArray(virtualMachines.id, ends))
  const [later] = await tx
    .select({ id: migrations.id, rollsBack: migrations.rollsBackMigrationId })
    .from(migrations)
    .leftJoin(virtualMachines, eq(virtualMachines.id, migrations.sourceVirtualMachineId))
    .where(
      and(
        eq(migrations.state, 'COMPLETED'),
        ne(migrations.id, of.id),
        gt(migrations.startOrder, of.startOrder),
        // It brought the machine back to where the one that it rolled back had found it.
        carriesWritesBack ? isNull(migrations.rollsBackMigrationId) : undefined,
        or(
          inArray(virtualMachines.uniqueId, known),
          inArray(migrations.sourceVirtualMachineId, ends),
          inArray(migrations.destinationVirtualMachineId, ends),
        ),
      ),
    )
    // The one to begin with: of those that went on, which come first, the last.
    .orderBy(asc(migrations.rollsBackMigrationId), desc(migrations.startOrder))
  if (!later) return
  const [because, remedy] =
    later.rollsBack === null
      ? ['has moved the machine on', `Roll back migration ${later.id} first.`]
      : [
          'has carried writes back to its destination',
          'Roll it back with carryWritesBack, or keep the destination, and move it with an ordinary migration.',
        ]
  throw new PortolanError(
    'NOT_ALLOWED_NOW',
    `ROLL_BACK of migration ${of.id} was refused, since migration ${later.id} ${because}; nothing was changed.`,
    { retryable: false, remedy, path: ['input', 'migrationId'] },
  )
}

async function requireSourceLeft({ migration, results, source, signal }: RollbackSides): Promise<void> {
  const vmId = providerIdOf(migration.sourceCloudId, migration.sourceVirtualMachineId)
  const site = await source()
  const { power } = await site.virtualMachines.describe({ vmId, signal })
  const fence = await fenceAt(site, vmId, migration, signal)
  // Given up while it was suspended, and back since.
  if (power === 'SUSPENDED' && fence?.isOwn)
    throw conflict('It is SUSPENDED under its fence, not off.', 'Send reconcileMigrations for it, which powers it off, then roll it back.')
  if (power !== 'STOPPED') throw conflict(`It is ${power}, not off.`)
  if (fence && !fence.isOwn) throw conflict(`It is under another migration's fence, ${fence.id}.`)
  if (!fence && site.fencing && results.ARM_FENCE?.strength)
    throw conflict('Its fence is gone, so it may have run since, beside the destination.')
}

async function requireDestinationInHand(sides: RollbackSides): Promise<void> {
  if ((await destinationPower(sides)) === null) return
  const { migration, results, destination, signal } = sides
  const fence = await fenceAt(await destination(), results.INSTANTIATE_DESTINATION?.vmId ?? '', migration, signal)
  if (fence && !fence.isOwn) throw conflict(`It is under another migration's fence, ${fence.id}.`)
}

async function asked(side: string, look: () => Promise<void>): Promise<void> {
  try {
    await look()
  } catch (error) {
    const { code, message, retryable, remedy } = failureOf(error)
    throw new PortolanError(
      code,
      `${side} stands in the way of a rollback: ${message} Nothing was changed: the destination was not touched.`,
      {
        retryable,
        remedy: isOutOfReach(error)
          ? 'Roll back once its cloud answers: until then nobody can see to it that one copy runs, and one only.'
          : isAbsent(error)
            ? 'Keep the destination, and move it with an ordinary migration if it is to go elsewhere.'
            : remedy,
        path: ['input', 'migrationId'],
      },
    )
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof ProviderError && error.code === 'NOT_FOUND'
}

function conflict(message: string, remedy = "See the migration's verdict for which copy is the live one."): ProviderError {
  return new ProviderError('CONFLICT', message, { retryable: false, remedy })
}
