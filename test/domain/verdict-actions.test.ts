import { describe, expect, test } from 'vitest'
import {
  conclude,
  isDueUnasked,
  mayBecomeDue,
  copyFences,
  copyPowers,
  safeActions,
  type CopyStanding,
  type SafeAction,
  type VerdictStanding,
} from '../../src/domain/verdict-actions.ts'
import type { Decided } from '../../src/domain/verdict.ts'

const decisions: (Decided & Pick<VerdictStanding, 'outcome'>)[] = [
  { verdict: 'UNKNOWN', row: 'UNREADABLE', outcome: null },
  { verdict: 'NOT_MIGRATED', row: 'NOT_STARTED', outcome: null },
  { verdict: 'NOT_MIGRATED', row: 'NO_PLACEHOLDER', outcome: null },
  { verdict: 'NOT_MIGRATED', row: 'NO_PLACEHOLDER', outcome: 'ABANDONED' },
  { verdict: 'NOT_MIGRATED', row: 'NO_COMPLETED_EVENT', outcome: null },
  { verdict: 'NOT_MIGRATED', row: 'NO_COMPLETED_EVENT', outcome: 'ABANDONED' },
  { verdict: 'NOT_MIGRATED', row: 'ROLLED_BACK', outcome: 'COMMITTED' },
  { verdict: 'MIGRATED', row: 'COMPLETED', outcome: 'COMMITTED' },
  { verdict: 'MIGRATED', row: 'COMPLETED_EVENT', outcome: 'COMMITTED' },
]
const flags = [false, true]
const copies: CopyStanding[] = copyPowers.flatMap((power) => copyFences.map((fence) => ({ power, fence })))

/** The whole input space: every decision with everything that can be known, or unknown, of either copy. */
function* everyStanding(): Generator<VerdictStanding> {
  for (const decision of decisions)
    for (const source of copies)
      for (const destination of copies)
        for (const sourceAttestedDead of flags)
          for (const startOwed of flags)
            for (const disputed of flags)
              for (const siteUnread of disputed ? flags : [false])
                for (const workflowRuns of flags)
                  for (const known of flags)
                    yield { ...decision, source, destination, sourceAttestedDead, startOwed, disputed, siteUnread, workflowRuns, known }
}

function violations(holds: (actions: SafeAction[], standing: VerdictStanding) => boolean): VerdictStanding[] {
  const found: VerdictStanding[] = []
  for (const standing of everyStanding()) if (!holds(safeActions(standing), standing)) found.push(standing)
  return found.slice(0, 3)
}

const startsSource: SafeAction[] = ['RESUME_SOURCE', 'START_SOURCE', 'RELEASE_FENCE']
const startsDestination: SafeAction[] = ['START_DESTINATION', 'RESUME_DESTINATION', 'EXPOSE_DESTINATION']
const any = (actions: SafeAction[], of: SafeAction[]) => actions.some((action) => of.includes(action))
const unknown = ({ power, fence }: CopyStanding) => power === 'UNKNOWN' || fence === 'UNKNOWN'

test('nothing starts both copies', () => {
  expect(violations((actions) => !(any(actions, startsSource) && any(actions, startsDestination)))).toEqual([])
})

test('an unknown or disputed verdict, and a migration whose workflow runs, start nothing and stop nothing', () => {
  const idle: SafeAction[] = ['NONE', 'LET_MIGRATION_RUN', 'WAIT_FOR_DESTINATION']
  expect(
    violations(
      (actions, { verdict, disputed, workflowRuns }) =>
        !(verdict === 'UNKNOWN' || disputed || workflowRuns) || actions.every((action) => idle.includes(action)),
    ),
  ).toEqual([])
})

test('the destination goes live only when it is MIGRATED and the source is fenced, or attested dead while nothing of it answers', () => {
  expect(
    violations(
      (actions, { verdict, source, sourceAttestedDead }) =>
        !any(actions, startsDestination) ||
        (verdict === 'MIGRATED' &&
          ((source.fence === 'FENCED' && source.power !== 'ABSENT') ||
            (sourceAttestedDead && source.power !== 'RUNNING') ||
            (sourceAttestedDead && unknown(source)))),
    ),
  ).toEqual([])
})

test('a source whose power is unknown keeps a destination from being started unless it was attested dead', () => {
  expect(
    violations(
      (actions, { source, sourceAttestedDead }) =>
        !(unknown(source) && source.fence !== 'FENCED' && !sourceAttestedDead) || !any(actions, [...startsDestination, ...startsSource]),
    ),
  ).toEqual([])
})

test('a destination that may run keeps the source from being started', () => {
  expect(
    violations(
      (actions, { destination }) =>
        !any(actions, startsSource) ||
        (destination.power !== 'RUNNING' && destination.power !== 'SUSPENDED' && destination.power !== 'UNKNOWN'),
    ),
  ).toEqual([])
})

test('the source is started only once the commit has become impossible, or was rolled back', () => {
  expect(
    violations((actions, { outcome, row }) => !any(actions, startsSource) || outcome === 'ABANDONED' || row === 'ROLLED_BACK'),
  ).toEqual([])
})

test("a copy under another's fence is neither started nor fenced, nor is that fence released", () => {
  const onSource: SafeAction[] = [...startsSource, 'FENCE_SOURCE', 'RETIRE_SOURCE']
  expect(violations((actions, { source }) => source.fence !== 'FOREIGN' || !any(actions, onSource))).toEqual([])
  expect(violations((actions, { destination }) => destination.fence !== 'FOREIGN' || !any(actions, startsDestination))).toEqual([])
})

test('a source that comes back while its machine is MIGRATED is fenced before anything else', () => {
  expect(
    violations(
      (actions, { verdict, disputed, workflowRuns, source }) =>
        verdict !== 'MIGRATED' ||
        disputed ||
        workflowRuns ||
        source.power === 'ABSENT' ||
        !(source.fence === 'NONE' || source.fence === 'ARMED') ||
        (actions.length === 1 && actions[0] === 'FENCE_SOURCE'),
    ),
  ).toEqual([])
})

test('a machine that is missing is not taken for one that is stopped', () => {
  expect(
    violations(
      (actions, { source, sourceAttestedDead }) =>
        source.power !== 'ABSENT' || sourceAttestedDead || !any(actions, [...startsSource, ...startsDestination, 'FENCE_SOURCE']),
    ),
  ).toEqual([])
  expect(violations((actions, { destination }) => destination.power !== 'ABSENT' || !any(actions, startsDestination))).toEqual([])
})

test('the completion is recorded only of a destination that was seen running', () => {
  expect(violations((actions, { destination }) => !actions.includes('COMPLETE_RECORDS') || destination.power === 'RUNNING')).toEqual([])
})

test('there is always an answer, and what is to be done is among what is safe', () => {
  for (const standing of everyStanding()) {
    const actions = safeActions(standing)
    const conclusion = conclude(standing)
    if (actions.length === 0 || (conclusion.state === 'WORK' && !conclusion.does.every((action) => actions.includes(action))))
      expect.fail(JSON.stringify(standing))
  }
})

test('a rollback is ended only by what it had fenced itself, with a source to go back to', () => {
  expect(
    violations(
      (actions, { source, destination }) =>
        !actions.includes('RECORD_ROLLBACK') ||
        (source.fence === 'FENCED' && destination.fence === 'FENCED' && destination.power === 'STOPPED'),
    ),
  ).toEqual([])
})

const settled: Pick<VerdictStanding, 'disputed' | 'siteUnread' | 'sourceAttestedDead' | 'startOwed' | 'workflowRuns' | 'known'> = {
  disputed: false,
  siteUnread: false,
  sourceAttestedDead: false,
  startOwed: false,
  workflowRuns: false,
  known: false,
}

test.each([
  ['STOPPED', 'START_DESTINATION'],
  ['SUSPENDED', 'RESUME_DESTINATION'],
] as const)('a moved machine that its owner left %s may go on, and is not made to by a reconciliation', (power, action) => {
  const standing: VerdictStanding = {
    ...settled,
    verdict: 'MIGRATED',
    row: 'COMPLETED',
    outcome: 'COMMITTED',
    source: { power: 'STOPPED', fence: 'FENCED' },
    destination: { power, fence: 'NONE' },
  }
  expect(safeActions(standing)).toEqual([action])
  expect(conclude(standing)).toEqual({ state: 'DONE' })
})

test('a source that is off without a fence may be started, and is started by a reconciliation only where that owes it', () => {
  const standing: VerdictStanding = {
    ...settled,
    verdict: 'NOT_MIGRATED',
    row: 'ROLLED_BACK',
    outcome: 'COMMITTED',
    source: { power: 'STOPPED', fence: 'NONE' },
    destination: { power: 'STOPPED', fence: 'FENCED' },
  }
  expect(safeActions(standing)).toEqual(['START_SOURCE'])
  expect(conclude(standing)).toEqual({ state: 'DONE' })
  expect(conclude({ ...standing, startOwed: true })).toEqual({ state: 'WORK', does: ['START_SOURCE'] })
})

describe('a source that is suspended without a fence, of an attempt that was given up', () => {
  const standing: VerdictStanding = {
    ...settled,
    verdict: 'NOT_MIGRATED',
    row: 'NO_COMPLETED_EVENT',
    outcome: 'ABANDONED',
    source: { power: 'SUSPENDED', fence: 'NONE' },
    destination: { power: 'STOPPED', fence: 'NONE' },
  }
  const resumed = { state: 'WORK', does: ['RESUME_SOURCE'] }

  test('is resumed where nobody knows how the attempt ended: its way back releases the fence before it resumes', () => {
    expect(conclude(standing)).toEqual(resumed)
  })

  test("may be resumed, and is left to its owner, where the attempt's workflow ended here, since that resumed it", () => {
    const known = { ...standing, known: true }
    expect(safeActions(known)).toContain('RESUME_SOURCE')
    expect(conclude(known)).toEqual({ state: 'DONE' })
    expect(conclude({ ...known, startOwed: true })).toEqual(resumed)
    expect(conclude({ ...known, sourceAttestedDead: true }), 'its workflow gave it up as dead').toEqual(resumed)
  })

  test('is left to its owner after a rollback, which starts what was off', () => {
    const rolledBack: VerdictStanding = { ...standing, row: 'ROLLED_BACK', outcome: 'COMMITTED' }
    expect(safeActions(rolledBack)).toEqual(['RESUME_SOURCE'])
    expect(conclude(rolledBack)).toEqual({ state: 'DONE' })
  })
})

test('what is disputed waits while a site that could settle it is not read, and needs a person once all are', () => {
  for (const standing of everyStanding())
    if (standing.disputed && !standing.workflowRuns && standing.verdict !== 'UNKNOWN')
      expect(conclude(standing).state).toBe(standing.siteUnread ? 'WAIT' : 'STUCK')
})

test('unasked, a source is only fenced or retired where its machine moved, or let go on where our fence or our debt keeps it; nothing that runs is stopped for it', () => {
  for (const standing of everyStanding()) {
    if (!isDueUnasked(standing)) continue
    const { verdict, disputed, workflowRuns, source, destination, startOwed } = standing
    const ours = source.fence === 'ARMED' || source.fence === 'FENCED'
    const fits = verdict === 'MIGRATED' ? source.fence !== 'UNSUPPORTED' && source.fence !== 'FOREIGN' : ours || startOwed
    if (verdict === 'MIGRATED' && source.fence === 'FENCED') expect(conclude(standing)).toEqual({ state: 'WORK', does: ['RETIRE_SOURCE'] })
    if (disputed || workflowRuns || !fits || (verdict !== 'MIGRATED' && destination.power === 'RUNNING'))
      expect.fail(JSON.stringify(standing))
  }
})

test('what a site that was not read, or a workflow that runs, keeps from being due is looked at again', () => {
  const due: VerdictStanding = {
    ...settled,
    verdict: 'MIGRATED',
    row: 'COMPLETED',
    outcome: 'COMMITTED',
    source: { power: 'SUSPENDED', fence: 'FENCED' },
    destination: { power: 'RUNNING', fence: 'NONE' },
  }
  const silent: CopyStanding = { power: 'UNKNOWN', fence: 'UNKNOWN' }
  expect(isDueUnasked(due)).toBe(true)
  expect(mayBecomeDue(due)).toBe(false)
  const unread: Partial<VerdictStanding>[] = [
    { verdict: 'UNKNOWN', row: 'UNREADABLE' },
    { source: silent },
    { destination: silent },
    { disputed: true, siteUnread: true },
    { workflowRuns: true },
  ]
  for (const change of unread) {
    expect(isDueUnasked({ ...due, ...change })).toBe(false)
    expect(mayBecomeDue({ ...due, ...change })).toBe(true)
  }
})
