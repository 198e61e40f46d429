import { cutoverObstacle } from '../cutover-obstacle.ts'
import { createMigrationTests, endOpenTests } from '../migration-test-run.ts'
import { done, type Phase, type PhaseContext } from '../phase.ts'
import { wait } from '../wait.ts'
import { createSyncRounds } from './sync-round.ts'

/**
 * AUTOMATIC passes through. MANUAL waits for the operator's word; either waits for the time that was set, and for the members of a group that it depends on. Meanwhile
 * the copy is kept fresh, and whether it converges is judged on: the policy for what doesn't holds here as in SYNC.
 */
export const readyToCutOver: Phase = {
  name: 'READY_TO_CUT_OVER',
  control: 'PAUSABLE',
  timeoutMs: null,
  ownRetries: true,
  async do(context) {
    const rounds = createSyncRounds(context)
    // SYNC ended on an estimate that holds; after a restart it is an old one.
    let ready = !context.repeated
    const tests = createMigrationTests(context)
    try {
      for (;;) {
        if (ready && (await cutoverObstacle(context)) === null) return done
        await waitBetweenRounds(context, ready)
        await tests.step()
        ready = await rounds.next()
      }
    } finally {
      // Aborted, the undo does it, or the next control plane.
      if (!context.signal.aborted) await tests.end('The cutover came before the test had ended.')
    }
  },
  /** Of what it began only a test boot may be left. */
  undo: (context) => endOpenTests(context, 'The migration ended before the test had.'),
}

/** When it is ready, the end of what it waits for ends the waiting at once. */
async function waitBetweenRounds(context: PhaseContext, ready: boolean): Promise<void> {
  const { holdMs, pollMs } = context.settings.timings
  for (let waitedMs = 0; waitedMs < holdMs; waitedMs += pollMs) {
    const problem = await cutoverObstacle(context)
    if (ready && problem === null) return
    if (ready && context.migration.desired === 'RUN' && context.migration.problem !== problem)
      await context.store.write(context.migration, { patch: { problem } })
    await wait(pollMs, context.signal)
  }
}
