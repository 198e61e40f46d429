import { done, type Phase } from '../phase.ts'
import { releaseSource } from './arm-fence.ts'

export const releaseRetainedSource: Phase = {
  name: 'RELEASE_SOURCE',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    await releaseSource(context)
    return done
  },
  // A rollback only goes forward.
  undo: null,
}
