import { PortolanError } from '../../domain/errors.ts'
import { defaultTimings } from '../migration-settings.ts'
import { done, type Phase } from '../phase.ts'
import { requireSourceOut } from './fence-source.ts'
import { decide } from './site-records.ts'

/** The durable record at the destination that ends the way back. */
export const commit: Phase = {
  name: 'COMMIT',
  control: 'COMMITTING',
  timeoutMs: defaultTimings.commitMs,
  async do(context) {
    // Once more, and right before: an operator's hooks may have taken hours since.
    await requireSourceOut(context)
    const decided = await decide(context, 'COMMITTED')
    if (decided === 'COMMITTED') return done
    throw new PortolanError('CONFLICT', `The destination holds that migration ${context.migration.id} was abandoned.`, {
      retryable: false,
      remedy: 'Start another migration.',
    })
  },
  /** The record may have been written without our having its answer. So it is asked to hold the contrary; until it answers, the source stays as it is. */
  async undo(context) {
    return (await decide(context, 'ABANDONED')) === 'COMMITTED' ? 'COMMITTED' : undefined
  },
}
