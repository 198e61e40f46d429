import { expect, test } from 'vitest'
import { ApiError } from '../../src/cli/graphql-client.ts'
import { until } from './until.ts'

function asking(...answers: (string | Error)[]): () => Promise<string> {
  return async () => {
    const answer = answers.length > 1 ? answers.shift()! : answers[0]!
    if (answer instanceof Error) throw answer
    return answer
  }
}
const ended = (state: string) => state === 'COMPLETED'
const away = new TypeError('fetch failed')

test('who is away for a moment is asked again', async () => {
  expect(await until(asking(away, 'RUNNING', away, 'COMPLETED'), ended, 60_000)).toBe('COMPLETED')
})

test('it ends with what was answered last, with why nobody did, and at once with what the API refuses', async () => {
  await expect(until(asking('RUNNING'), ended, -1)).rejects.toThrow('RUNNING')
  await expect(until(asking(away), ended, -1)).rejects.toBe(away)
  const refused = new ApiError('There is no such migration.')
  await expect(until(asking(refused), ended, 60_000)).rejects.toBe(refused)
})
