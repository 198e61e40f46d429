/** So that no phase is silent: every two seconds it says for how long it has been at it, and for how long it usually is. */
import { activityOf, sentenceOf } from '../domain/phase-activity.ts'
import type { MigrationRow, MigrationStore } from './migration-store.ts'
import type { Phase, PhaseContext } from './phase.ts'

const everyMs = 2_000

/** These know better how long they take: see round-run.ts. */
const ownEta: ReadonlySet<Phase['name']> = new Set(['SYNC', 'READY_TO_CUT_OVER', 'SEND_REMAINDER', 'ADMISSION'])

/** Returns what ends it, which resolves once the last word is written. */
export function startHeartbeat(
  store: MigrationStore,
  migration: MigrationRow,
  phase: Pick<Phase, 'name' | 'timeoutMs'>,
  { undoing = false, context }: { undoing?: boolean; context?: Pick<PhaseContext, 'occupation'> } = {},
): () => Promise<void> {
  const since = performance.now()
  const usual = undoing || ownEta.has(phase.name) ? Promise.resolve(null) : store.usualDurationMs(migration, phase.name).catch(() => null)
  let writing: Promise<void> = Promise.resolve()

  async function beat(): Promise<void> {
    const elapsedMs = performance.now() - since
    const usualMs = await usual
    const occupied = context?.occupation
    if (occupied)
      return store.write(migration, { patch: { activity: sentenceOf(occupied.what, performance.now() - occupied.since), etaMs: null } })
    await store.write(migration, {
      patch: {
        activity: activityOf(phase.name, { elapsedMs, timeoutMs: phase.timeoutMs, undoing }),
        ...(usualMs === null ? {} : { etaMs: Math.max(0, Math.round(usualMs - elapsedMs)) }),
      },
    })
  }

  const timer = setInterval(() => {
    // A word that can't be written now is followed by the next.
    writing = writing.then(beat).catch(() => {})
  }, everyMs)
  return async () => {
    clearInterval(timer)
    await writing
  }
}
