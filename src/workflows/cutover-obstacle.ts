import type { PhaseContext } from './phase.ts'

/** What a migration that could cut over waits for, as a sentence; null when it may cut over now. Reads the migration anew. */
export async function cutoverObstacle(context: Pick<PhaseContext, 'reread' | 'settings'>): Promise<string | null> {
  const { id, cutoverPolicy, cutoverRequestedAt, desired } = await context.reread()
  if (desired !== 'RUN') return 'Its operator wants something else.'
  const group = await context.settings.groupCutover(id)
  if (group?.awaits) return group.awaits
  const at = cutoverRequestedAt ?? group?.cutoverAt ?? null
  if (at) return at.getTime() <= Date.now() ? null : `It cuts over at ${at.toISOString()}.`
  return cutoverPolicy === 'AUTOMATIC' ? null : 'It waits for its operator to cut it over.'
}
