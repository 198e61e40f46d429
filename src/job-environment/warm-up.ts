import type { FromChild } from '../transfer/child-messages.ts'
import type { ChildSession } from './child-session.ts'

/** From the start of the boot to the runtime's first word, under emulation. */
const bootTimeoutMs = 240_000
const warmUpTimeoutMs = 300_000

export interface Warmed {
  hello: Extract<FromChild, { type: 'HELLO' }>
  ready: Extract<FromChild, { type: 'READY' }>
}

/** What a guest that has just booted goes through before it is saved, or given tasks. Throws Error with what its program said where that failed. */
export async function warmUp(session: ChildSession, program: string | null): Promise<Warmed> {
  const hello = await session.expect((message) => message.type === 'HELLO', bootTimeoutMs, 'hello')
  session.send({ type: 'WARM_UP', program })
  const answer = await session.expect(isWarmUpAnswer, warmUpTimeoutMs, 'that it is warm')
  if (answer.type === 'WARM_UP_FAILED') throw new Error(`The warm-up program failed: ${answer.message}`)
  return { hello, ready: answer }
}

function isWarmUpAnswer(message: FromChild): message is Extract<FromChild, { type: 'READY' | 'WARM_UP_FAILED' }> {
  return message.type === 'READY' || message.type === 'WARM_UP_FAILED'
}
