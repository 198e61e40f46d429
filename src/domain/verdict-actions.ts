/** What may be done now about a virtual machine after a fault, from its verdict and from what is known of the two copies. In the order in which it is to be done. */
import type { Outcome } from './migration-record.ts'
import type { Decided } from './verdict.ts'

export const safeActionNames = [
  'NONE',
  'LET_MIGRATION_RUN',
  'LET_SOURCE_RUN',
  'ABANDON',
  'STOP_DESTINATION',
  'RECORD_ROLLBACK',
  'RELEASE_FENCE',
  'RESUME_SOURCE',
  'START_SOURCE',
  'FENCE_SOURCE',
  'START_DESTINATION',
  'RESUME_DESTINATION',
  'EXPOSE_DESTINATION',
  'COMPLETE_RECORDS',
  'RETIRE_SOURCE',
  'RETRY',
  'DISCARD',
  'WAIT_FOR_SOURCE',
  'WAIT_FOR_DESTINATION',
  'ATTEST_SOURCE',
] as const
export type SafeAction = (typeof safeActionNames)[number]

/** ABSENT: its provider answered that there is no such machine, which is not to say that it is stopped. UNKNOWN: nobody could be asked. */
export const copyPowers = ['RUNNING', 'SUSPENDED', 'STOPPED', 'ABSENT', 'UNKNOWN'] as const
export type CopyPower = (typeof copyPowers)[number]

/** ARMED and FENCED are this attempt's; FOREIGN is another's. UNSUPPORTED: its provider can't fence. */
export const copyFences = ['NONE', 'ARMED', 'FENCED', 'FOREIGN', 'UNSUPPORTED', 'UNKNOWN'] as const
export type CopyFence = (typeof copyFences)[number]

export interface CopyStanding {
  power: CopyPower
  fence: CopyFence
}

export interface VerdictStanding extends Decided {
  outcome: Outcome | null
  /** Other records of the same machine contradict these, or came on top of them. */
  disputed: boolean
  /** The records of some other connected site could not be read: they may settle what is disputed. */
  siteUnread: boolean
  source: CopyStanding
  destination: CopyStanding
  /** An operator attested that the source is dead. */
  sourceAttestedDead: boolean
  /** The source was found under this attempt's fence, so whoever takes the fence away owes it its start. */
  startOwed: boolean
  /** A migration of this control plane, whose workflow has not ended: it does by itself what is safe. */
  workflowRuns: boolean
  /** This control plane has the migration, so it can be retried or discarded. */
  known: boolean
}

export function safeActions(standing: VerdictStanding): SafeAction[] {
  if (standing.workflowRuns) return ['LET_MIGRATION_RUN']
  if (standing.verdict === 'UNKNOWN') return ['WAIT_FOR_DESTINATION']
  if (standing.disputed) return ['NONE']
  const actions = standing.verdict === 'MIGRATED' ? whenMigrated(standing) : whenNotMigrated(standing)
  return actions.length === 0 ? ['NONE'] : actions
}

/** The source is out before anything else, also one that comes back from the dead. */
function whenMigrated({ row, source, destination, sourceAttestedDead }: VerdictStanding): SafeAction[] {
  const isThere = source.power !== 'ABSENT'
  if (isThere && (source.fence === 'NONE' || source.fence === 'ARMED')) return ['FENCE_SOURCE']
  if (isThere && source.fence === 'FOREIGN') return []
  const sourceIsOut = isThere && source.fence === 'FENCED'
  if (!sourceIsOut && !(sourceAttestedDead && canBeAttested(source))) return ['WAIT_FOR_SOURCE', 'ATTEST_SOURCE']
  if (destination.power === 'UNKNOWN' || destination.fence === 'UNKNOWN') return ['WAIT_FOR_DESTINATION']
  // Only a rollback fences the destination under this attempt. It goes forward only, so it is ended, provided that there is a source to go back to.
  if (isOurs(destination)) return sourceIsOut ? endOfRollback(destination) : []
  // Under another's fence a later migration took it elsewhere. Absent: there is nothing to start.
  if (!isFree(destination)) return []
  const exposed = row === 'COMPLETED'
  return [
    ...when(destination.power === 'STOPPED', 'START_DESTINATION'),
    ...when(destination.power === 'SUSPENDED', 'RESUME_DESTINATION'),
    ...when(!exposed, 'EXPOSE_DESTINATION'),
    // Only what was seen running: once completed, a machine that is off is left off.
    ...when(!exposed && destination.power === 'RUNNING', 'COMPLETE_RECORDS'),
    ...when(exposed && source.power === 'SUSPENDED', 'RETIRE_SOURCE'),
  ]
}

function endOfRollback({ power, fence }: CopyStanding): SafeAction[] {
  if (power === 'RUNNING' || power === 'SUSPENDED') return ['STOP_DESTINATION']
  return power === 'STOPPED' && fence === 'FENCED' ? ['RECORD_ROLLBACK'] : []
}

/** The commit is made impossible before the source is touched, and what runs at the destination is off before the source runs. */
function whenNotMigrated(standing: VerdictStanding): SafeAction[] {
  const { row, outcome, source, destination, sourceAttestedDead, known } = standing
  const letRun = when(source.power === 'RUNNING', 'LET_SOURCE_RUN')
  if (row === 'NOT_STARTED') return letRun
  const runs = destination.power === 'RUNNING' || destination.power === 'SUSPENDED'
  if (outcome === null) return ['ABANDON', ...when(runs, 'STOP_DESTINATION'), ...letRun]
  if (destination.power === 'UNKNOWN') return ['WAIT_FOR_DESTINATION', ...letRun]
  // Who attested that the source is dead may have started the kept copy on his own.
  if (runs && sourceAttestedDead && isUnreachable(source)) return []
  if (runs) return ['STOP_DESTINATION', ...letRun]
  const toSource = onSource(standing)
  if (toSource) return toSource
  const kept = known && row !== 'ROLLED_BACK'
  return [
    ...letRun,
    ...when(source.power === 'STOPPED' && isFree(source), 'START_SOURCE'),
    ...when(source.power === 'SUSPENDED' && isFree(source), 'RESUME_SOURCE'),
    ...when(kept, 'RETRY'),
    ...when(kept && destination.power === 'STOPPED', 'DISCARD'),
  ]
}

/** Null: nothing is left to be done there. */
function onSource(standing: VerdictStanding): SafeAction[] | null {
  const { source, startOwed, sourceAttestedDead } = standing
  if (isUnreachable(source) || source.power === 'ABSENT') return sourceAttestedDead ? null : ['WAIT_FOR_SOURCE', 'ATTEST_SOURCE']
  if (source.fence === 'FOREIGN') return []
  const ours = isOurs(source)
  const owed = ours || startOwed
  const release = when(ours, 'RELEASE_FENCE')
  if (source.power === 'RUNNING') return ours ? ['LET_SOURCE_RUN', ...release] : null
  if (source.power === 'SUSPENDED' && (owed || isLeftSuspended(standing))) return [...release, 'RESUME_SOURCE']
  if (source.power === 'STOPPED' && owed) return [...release, 'START_SOURCE']
  return null
}

/**
 * Whether a suspension is likely ours though no fence says so: without fences it is the only trace of ours. With them the way back releases the fence before it resumes, so one that was cut short
 * leaves nothing else; but a workflow that ended here has resumed it, unless the source was given up as dead, and a source that was rolled back to was off.
 */
function isLeftSuspended({ row, source, known, sourceAttestedDead }: VerdictStanding): boolean {
  if (source.fence === 'UNSUPPORTED') return true
  return source.fence === 'NONE' && row !== 'ROLLED_BACK' && (!known || sourceAttestedDead)
}

/** What is safe, and is its owner's to decide: he may have switched the machine off, or suspended it, himself. */
function isOwners(action: SafeAction, standing: VerdictStanding): boolean {
  const { row, source, startOwed, workflowRuns, disputed } = standing
  const moved = row === 'COMPLETED' && !workflowRuns && !disputed
  if (action === 'START_DESTINATION' || action === 'RESUME_DESTINATION') return moved
  if (startOwed || isOurs(source)) return false
  return action === 'START_SOURCE' || (action === 'RESUME_SOURCE' && !isLeftSuspended(standing))
}

/** What answers is not dead, whoever says so: it can be fenced, or it is off and can't be. */
export function canBeAttested(source: CopyStanding): boolean {
  const offUnfenced = source.fence === 'UNSUPPORTED' && source.power !== 'RUNNING'
  return source.power === 'ABSENT' || isUnreachable(source) || offUnfenced
}

function isOff({ power }: CopyStanding): boolean {
  return power === 'STOPPED' || power === 'ABSENT'
}

function isUnreachable({ power, fence }: CopyStanding): boolean {
  return power === 'UNKNOWN' || fence === 'UNKNOWN'
}

function isOurs({ power, fence }: CopyStanding): boolean {
  return power !== 'ABSENT' && (fence === 'ARMED' || fence === 'FENCED')
}

function isFree({ power, fence }: CopyStanding): boolean {
  return power !== 'ABSENT' && (fence === 'NONE' || fence === 'UNSUPPORTED')
}

/** What a reconciliation makes of it: WORK does `does` and looks again, WAIT looks again later, STUCK needs a person. */
export type Conclusion = { state: 'WORK'; does: SafeAction[] } | { state: 'WAIT' | 'DONE' | 'STUCK' }

const left: ReadonlySet<SafeAction> = new Set(['NONE', 'LET_SOURCE_RUN', 'RETRY', 'DISCARD'])

export function conclude(standing: VerdictStanding): Conclusion {
  if (standing.disputed && standing.siteUnread) return { state: 'WAIT' }
  const actions = safeActions(standing)
  const waits = actions.some(
    (action) => action === 'LET_MIGRATION_RUN' || action === 'WAIT_FOR_SOURCE' || action === 'WAIT_FOR_DESTINATION',
  )
  // A moved machine that its owner stopped is left off; and it doesn't wait for a source that may come back any time: that is fenced then.
  const moved = standing.row === 'COMPLETED' && !standing.workflowRuns && !standing.disputed
  if (waits) return { state: moved ? 'DONE' : 'WAIT' }
  const does = actions.filter((action) => !left.has(action) && !isOwners(action, standing))
  if (does.length > 0) return { state: 'WORK', does }
  // In a rollback that nobody can end, neither of the two runs.
  const unfinished = standing.verdict === 'MIGRATED' && (!moved || isOurs(standing.destination))
  return { state: standing.disputed || unfinished ? 'STUCK' : 'DONE' }
}

/**
 * Whether a source that answers again is put right without anybody's asking: it is fenced where its machine has moved, and retired where it was suspended under its
 * fence; where it has not, and nothing runs at the destination, our fence is taken away and it goes on, once a commit of our attempt has been made impossible. Where nothing of ours
 * is left there, its owner may have wanted it as it is.
 */
export function isDueUnasked(standing: VerdictStanding): boolean {
  const conclusion = conclude(standing)
  if (conclusion.state !== 'WORK') return false
  const { does } = conclusion
  const retires = does.includes('RETIRE_SOURCE') && standing.source.fence === 'FENCED'
  // A full destination may have kept it from being recorded. What another control plane has begun is not ended by this one.
  if (does.includes('ABANDON')) return standing.known && isOurs(standing.source) && isOff(standing.destination)
  return retires || does.includes('FENCE_SOURCE') || does.includes('RELEASE_FENCE') || (standing.startOwed && restartsSource(does))
}

/** Whether something may become due unasked: once a site can be read that could not, or once a workflow has ended, which may leave a source that it couldn't reach. */
export function mayBecomeDue({ verdict, source, destination, disputed, siteUnread, workflowRuns }: VerdictStanding): boolean {
  if (workflowRuns) return true
  return verdict === 'UNKNOWN' || source.power === 'UNKNOWN' || destination.power === 'UNKNOWN' || (disputed && siteUnread)
}

export function restartsSource(actions: readonly SafeAction[]): boolean {
  return actions.includes('RESUME_SOURCE') || actions.includes('START_SOURCE')
}

function when(holds: boolean, ...actions: SafeAction[]): SafeAction[] {
  return holds ? actions : []
}
