import { done, type Phase } from '../phase.ts'
import { resultOf } from './phase-facts.ts'
import { putRollbackOf } from './site-records.ts'

/** The migration whose writes came back is rolled back: off and fenced, what it had made is a copy that is kept until it is discarded. */
export const recordCarriedBack: Phase = {
  name: 'RECORD_ROLLBACK',
  atSource: true,
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    const { store, migration } = context
    const rolledBack = await store.read(migration.rollsBackMigrationId ?? '')
    // First our own memory, which a site that is gone doesn't keep from being right.
    if (rolledBack.state !== 'ROLLED_BACK')
      await store.write(rolledBack, {
        patch: { state: 'ROLLED_BACK', copyKept: true },
        events: [
          {
            kind: 'STATE_CHANGED',
            message: `The source runs again, with all that was written since: migration ${migration.id} carried it back.`,
          },
        ],
      })
    await putRollbackOf(context, rolledBack, resultOf(context, 'INSTANTIATE_DESTINATION').uniqueId)
    return done
  },
  // After the commit there is no way back.
  undo: null,
}
