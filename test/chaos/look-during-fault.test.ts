import { expect, test } from 'vitest'
import { ApiError } from '../../src/cli/graphql-client.ts'
import { lookDuringFault } from './look-during-fault.ts'
import { planRun } from './plan.ts'
import { newResult } from './result.ts'
import { judgeSeen, nothingSeen } from './seen-during-faults.ts'
import type { Stage } from './stage.ts'

type Answer = 'MIGRATED' | 'NOT_MIGRATED' | 'UNKNOWN' | Error | null
const away = new TypeError('fetch failed')
const refuses = new ApiError('The source can not be reached.')

/** A control plane that answers so, one after the other, and a migration that is in this phase. */
function stageWith(answers: Answer[], { phase = 'SYNC', state = 'RUNNING', lost = false } = {}): Stage {
  const api = {
    async run() {
      const answer = answers.length > 1 ? answers.shift()! : answers[0]!
      if (answer instanceof Error) throw answer
      return { migrationVerdicts: answer === null ? [] : [{ verdict: answer }] }
    },
  }
  const scenario = { progress: async () => ({ phase, state }), api: () => api }
  return { scenario, seenDuringFaults: nothingSeen(), databaseWasLost: () => lost } as unknown as Stage
}

async function seenBy(stage: Stage) {
  await lookDuringFault(stage, 'a migration', { due: AbortSignal.abort(), over: new AbortController().signal, withinMs: 0 })
  return stage.seenDuringFaults
}

test('a control plane that answers and gives no verdict is told from one that is away', async () => {
  expect((await seenBy(stageWith([refuses]))).withoutVerdict).toEqual([expect.stringContaining(refuses.message)])
  expect((await seenBy(stageWith([null]))).withoutVerdict).toHaveLength(1)
  expect(await seenBy(stageWith([away]))).toEqual(nothingSeen())
  expect(await seenBy(stageWith([refuses], { lost: true }))).toEqual(nothingSeen())
})

test('it is asked again, and a verdict that comes in time is one', async () => {
  const stage = stageWith([refuses, 'MIGRATED'])
  await lookDuringFault(stage, 'a migration', { due: AbortSignal.abort(), over: new AbortController().signal })
  expect(stage.seenDuringFaults).toEqual({ ...nothingSeen(), committed: true })
})

test('while it lasts it is asked again: a verdict that is wrong later on is seen', async () => {
  const stage = stageWith(['MIGRATED', 'NOT_MIGRATED'])
  await lookDuringFault(stage, 'a migration', { due: new AbortController().signal, over: new AbortController().signal })
  expect(stage.seenDuringFaults.wrong).toHaveLength(1)
})

test('NOT_MIGRATED is wrong once a phase after the commit was seen, and right before; UNKNOWN is neither', async () => {
  expect((await seenBy(stageWith(['NOT_MIGRATED'], { phase: 'EXPOSE' }))).wrong).toHaveLength(1)
  expect((await seenBy(stageWith(['NOT_MIGRATED'], { phase: 'CLEAN_UP', state: 'COMPLETED' }))).wrong).toHaveLength(1)
  expect(await seenBy(stageWith(['NOT_MIGRATED'], { phase: 'COMMIT' }))).toEqual(nothingSeen())
  expect((await seenBy(stageWith(['UNKNOWN'], { phase: 'EXPOSE' }))).wrong).toEqual([])
})

test('what was committed is so in the end, whoever tells it', () => {
  const judged = (seen: Partial<Stage['seenDuringFaults']>, migrated: boolean) => {
    const result = newResult(planRun('a seed', 0), 'a commit')
    judgeSeen({ ...nothingSeen(), ...seen }, migrated, result)
    return [result.wrongVerdicts, result.unresolved]
  }
  expect(judged({ committed: true }, true)).toEqual([0, 0])
  expect(judged({ committed: true }, false)).toEqual([1, 0])
  expect(judged({ wrong: ['NOT_MIGRATED after the commit'] }, true)).toEqual([1, 0])
  expect(judged({ withoutVerdict: ['no verdict'] }, true)).toEqual([0, 1])
})
