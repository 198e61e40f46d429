import { usualLimits } from '../../plugin-sdk/registry/plugin-connection.ts'
import { cutoverObstacle } from '../cutover-obstacle.ts'
import { createMigrationTests, endedByCutover, endOpenTests, type MigrationTests } from '../migration-test-run.ts'
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
  undoTimeoutMs: usualLimits.callTimeoutMs('destination.testBoot.remove'),
  async do(context) {
    const rounds = createSyncRounds(context)
    let ready = !context.repeated && (await isFresh(context))
    const tests = createMigrationTests(context)
    try {
      for (;;) {
        if (ready && (await cutoverObstacle(context)) === null && (await tests.end(endedByCutover))) return done
        await waitBetweenRounds(context, ready, tests)
        // A test holds the source's writes: not where that would take long, nor where it is paused or cuts over next.
        const waits = (await cutoverObstacle(context)) !== null && context.migration.desired === 'RUN'
        await tests.step(ready && waits)
        ready = await rounds.next()
      }
    } catch (error) {
      await tests.stop(endedBefore)
      throw error
    }
  },
  /** Of what it began only a test boot may be left. */
  undo: (context) => endOpenTests(context, endedBefore),
}

const endedBefore = 'The migration ended before the test had.'

/** SYNC ended on an estimate that holds, unless a pause or a hook came in between. */
async function isFresh({ store, migration, settings }: PhaseContext): Promise<boolean> {
  const last = await store.lastRound(migration)
  return last !== null && Date.now() - (last.startedAt.getTime() + (last.durationMs ?? 0)) < settings.timings.holdMs
}

/** When it is ready, the end of what it waits for ends the waiting at once. */
async function waitBetweenRounds(context: PhaseContext, ready: boolean, tests: Pick<MigrationTests, 'problem'>): Promise<void> {
  const { holdMs, pollMs } = context.settings.timings
  for (let waitedMs = 0; waitedMs < holdMs; waitedMs += pollMs) {
    const obstacle = await cutoverObstacle(context)
    const problem = tests.problem ?? obstacle
    if (ready && problem === null) return
    if (ready && context.migration.desired === 'RUN' && context.migration.problem !== problem)
      await context.store.write(context.migration, { patch: { problem } })
    await wait(pollMs, context.signal)
  }
}
