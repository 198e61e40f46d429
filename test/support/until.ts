import { setTimeout as delay } from 'node:timers/promises'
import { ApiError } from '../../src/cli/graphql-client.ts'

/**
 * Asks every 200 ms until the condition holds; nobody there, as on a machine that stands still for a moment, is no answer. @throws Error with the last answer, or why there
 * was none, after `timeoutMs`; ApiError at once.
 */
export async function until<Answer>(
  ask: () => Promise<Answer>,
  condition: (answer: Answer) => boolean,
  timeoutMs: number,
): Promise<Answer> {
  for (const deadline = performance.now() + timeoutMs; ; await delay(200)) {
    const answer = await ask().catch((error: unknown) => {
      if (error instanceof ApiError || performance.now() > deadline) throw error
      return null
    })
    if (answer !== null && condition(answer)) return answer
    if (performance.now() > deadline) throw new Error(`Waited ${timeoutMs} ms; the migration is ${JSON.stringify(answer)}.`)
  }
}
