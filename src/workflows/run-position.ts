/** Where a migration's row stands in its list of phases, and what that asks for. */
import type { MigrationRow, StepRow } from './migration-store.ts'
import type { Phase } from './phase.ts'

export function positionOf(list: readonly Phase[], migration: MigrationRow): number {
  const position = list.findIndex(({ name }) => name === migration.phase)
  if (position < 0)
    throw new Error(`The phase list ${migration.phaseListVersion} of migration ${migration.id} has no phase ${migration.phase}.`)
  return position
}

export function stepOf(migration: MigrationRow, steps: readonly StepRow[]): StepRow | undefined {
  return steps.find(({ phase, switchover }) => phase === migration.phase && switchover === migration.switchover)
}

/** Of what is done, or undone, next; the length of the list after its last phase. */
export function nextPosition(list: readonly Phase[], migration: MigrationRow, steps: readonly StepRow[]): number {
  const isDone = migration.direction === 'FORWARD' && stepOf(migration, steps)?.state === 'DONE'
  return positionOf(list, migration) + (isDone ? 1 : 0)
}

/** -1 in what begins after a migration's end. */
export function commitOf(list: readonly Phase[]): number {
  return list.findIndex(({ name }) => name === 'COMMIT')
}

/** A commit that is repeated finds its own record, and its hooks are sent again. */
export function isBeforeCommit(list: readonly Phase[], position: number, { direction }: MigrationRow): boolean {
  return position < commitOf(list) || (position === commitOf(list) && direction !== 'FORWARD')
}

/** Before anything of a switchover is done or undone, and before the way back gives up what it made at the destination, if it made anything. */
export function mustBeKnown(list: readonly Phase[], position: number, { direction }: MigrationRow, steps: readonly StepRow[]): boolean {
  if (commitOf(list) < 0 || position >= list.length) return false
  const isInSwitchover = position > list.findIndex(({ name }) => name === 'READY_TO_CUT_OVER')
  const { name } = list[position]!
  const givesUp = direction !== 'FORWARD' && name === 'INSTANTIATE_DESTINATION'
  return isInSwitchover || (givesUp && steps.some(({ phase, result }) => phase === name && result !== null))
}
