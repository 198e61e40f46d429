import { describe, expect, test } from 'vitest'
import { decideVerdict, decidingAttempt, isContradictory, type AttemptRecords, type DatedAttempt } from '../../src/domain/verdict.ts'

const nothing: AttemptRecords = { started: false, placeholder: false, outcome: null, completed: false, rolledBack: false }
const started = { ...nothing, started: true }
const committed: AttemptRecords = { ...started, placeholder: true, outcome: 'COMMITTED' }

describe('the table of the verdict, row by row', () => {
  test.each([
    ['no started record, whatever else is there', { ...committed, started: false, completed: true }, 'NOT_MIGRATED', 'NOT_STARTED'],
    ['a completed record', { ...committed, completed: true }, 'MIGRATED', 'COMPLETED'],
    ['a completed record alone', { ...started, completed: true }, 'MIGRATED', 'COMPLETED'],
    ['no placeholder', started, 'NOT_MIGRATED', 'NO_PLACEHOLDER'],
    ['no placeholder, and an event of nobody', { ...committed, placeholder: false }, 'NOT_MIGRATED', 'NO_PLACEHOLDER'],
    ['a placeholder without an event', { ...started, placeholder: true }, 'NOT_MIGRATED', 'NO_COMPLETED_EVENT'],
    ['a placeholder that was abandoned', { ...committed, outcome: 'ABANDONED' }, 'NOT_MIGRATED', 'NO_COMPLETED_EVENT'],
    ['a placeholder and its completed event', committed, 'MIGRATED', 'COMPLETED_EVENT'],
    ['a rollback after the completion', { ...committed, completed: true, rolledBack: true }, 'NOT_MIGRATED', 'ROLLED_BACK'],
  ] as const)('%s', (_, records, verdict, row) => {
    expect(decideVerdict(records)).toEqual({ verdict, row })
  })

  test('what could not be read is unknown, and no "no"', () => {
    expect(decideVerdict(null)).toEqual({ verdict: 'UNKNOWN', row: 'UNREADABLE' })
  })

  test('a commit that the table overlooks is a contradiction; a rollback is none', () => {
    expect(isContradictory({ ...committed, placeholder: false })).toBe(true)
    expect(isContradictory({ ...committed, started: false })).toBe(true)
    expect(isContradictory({ ...committed, rolledBack: true })).toBe(false)
    expect(isContradictory(committed)).toBe(false)
  })
})

describe('of several attempts', () => {
  const attempt = (number: number, records: AttemptRecords, startedAt = number): DatedAttempt => ({ attempt: number, startedAt, records })
  const abandoned: AttemptRecords = { ...started, placeholder: true, outcome: 'ABANDONED' }

  test('the newest decides', () => {
    const [first, second] = [attempt(1, abandoned), attempt(2, committed)]
    expect(decidingAttempt([first, second])).toMatchObject({ attempt: second, disputed: false })
    expect(decidingAttempt([second, attempt(3, abandoned)])?.attempt.attempt).toBe(2)
  })

  test('an older one that was committed decides, and is disputed by the newer one', () => {
    expect(decidingAttempt([attempt(2, started), attempt(1, committed)])).toMatchObject({ attempt: { attempt: 1 }, disputed: true })
  })

  test('an older one that was rolled back does not', () => {
    const rolledBack = attempt(1, { ...committed, rolledBack: true })
    expect(decidingAttempt([rolledBack, attempt(2, started)])).toMatchObject({ attempt: { attempt: 2 }, disputed: false })
  })

  test('none decides where there is none', () => {
    expect(decidingAttempt([])).toBeNull()
  })
})
