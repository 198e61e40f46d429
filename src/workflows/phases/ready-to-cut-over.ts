import { done, type Phase, type PhaseContext } from '../phase.ts'
import { wait } from '../wait.ts'
import { createSyncRounds } from './sync-round.ts'

/** AUTOMATIC passes through. MANUAL waits for the operator's word, or for the time that he set, and keeps the copy fresh meanwhile. */
export const readyToCutOver: Phase = {
  name: 'READY_TO_CUT_OVER',
  control: 'PAUSABLE',
  timeoutMs: null,
  ownRetries: true,
  async do(context) {
    const rounds = createSyncRounds(context)
    // SYNC ended on an estimate that holds; after a restart it is an old one.
    let ready = !context.repeated
    for (;;) {
      if (ready && (await wanted(context))) return done
      await waitForWish(context)
      ready = await rounds.next()
    }
  },
  // It only waits and syncs.
  undo: null,
}

async function wanted(context: PhaseContext): Promise<boolean> {
  const { cutoverPolicy, cutoverRequestedAt, desired } = await context.reread()
  if (desired !== 'RUN') return false
  return cutoverRequestedAt ? cutoverRequestedAt.getTime() <= Date.now() : cutoverPolicy === 'AUTOMATIC'
}

/** Between rounds; a wish ends the waiting at once. */
async function waitForWish(context: PhaseContext): Promise<void> {
  const { holdMs, pollMs } = context.settings.timings
  for (let waitedMs = 0; waitedMs < holdMs; waitedMs += pollMs) {
    if (await wanted(context)) return
    await wait(pollMs, context.signal)
  }
}
