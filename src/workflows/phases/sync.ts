import { done, type Phase } from '../phase.ts'
import { wait } from '../wait.ts'
import { createSyncRounds } from './sync-round.ts'

/** Rounds until the criterion holds: `estimated remaining time <= permitted downtime`. */
export const sync: Phase = {
  name: 'SYNC',
  control: 'PAUSABLE',
  timeoutMs: null,
  ownRetries: true,
  async do(context) {
    const rounds = createSyncRounds(context)
    while (!(await rounds.next())) await wait(context.settings.timings.roundGapMs, context.signal)
    return done
  },
  // What was copied is in the destination's disks, and goes with them.
  undo: null,
}
