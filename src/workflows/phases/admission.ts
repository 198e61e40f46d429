import { done, type Phase } from '../phase.ts'
import { wait } from '../wait.ts'

/** Waits in the queue until the concurrency limits allow one more copy, before anything is made. A restart, or a pause, keeps its place. */
export const admission: Phase = {
  name: 'ADMISSION',
  control: 'PAUSABLE',
  timeoutMs: null,
  async do(context) {
    for (;;) {
      const problem = await context.settings.admit(context.migration)
      if (problem === null) return done
      if ((await context.reread()).problem !== problem) await context.store.write(context.migration, { patch: { problem } })
      await wait(context.settings.timings.pollMs, context.signal)
      await context.holdWhilePaused()
    }
  },
  // A slot is not given back: it is free once the migration's row says that it doesn't copy.
  undo: null,
}
