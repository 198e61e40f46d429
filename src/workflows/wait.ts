import { setTimeout as delay } from 'node:timers/promises'

/** Resolves after `durationMs`; rejects with the signal's reason when it is aborted first. */
export async function wait(durationMs: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(durationMs, undefined, { signal })
  } catch (error) {
    signal.throwIfAborted()
    throw error
  }
}
