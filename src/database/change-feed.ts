/**
 * Tells listeners which rows are others now, whichever control plane on this database wrote them: polls the table `changes`, and looks at once after
 * a write of this process. It names what changed and carries no content: listeners read anew, so a slow one skips what it missed.
 */
import { desc, gt, lt } from 'drizzle-orm'
import type { Change, Database } from './client.ts'
import { changes } from './tables/change.ts'

export interface ChangeFeed {
  /**
   * Calls back after changes from now on, of all subjects or of one; several may come as one call. Listen first, then read the present state: what changes in
   * between calls back. Returns what stops it.
   */
  listen(interest: { topics: Change['topic'][]; subject?: string | undefined }, onChange: () => void): () => void
  close(): Promise<void>
}

interface Listener {
  topics: Change['topic'][]
  subject: string | undefined
  onChange: () => void
}

const keptMs = 10 * 60_000
const pruneEveryMs = 60_000

/** `onError` hears of a poll that failed; the next one tries again. */
export async function createChangeFeed(
  database: Database,
  { pollMs = 200, onError = () => {} }: { pollMs?: number; onError?: (error: unknown) => void } = {},
): Promise<ChangeFeed> {
  const listeners = new Set<Listener>()
  const [newest] = await database.select({ sequence: changes.sequence }).from(changes).orderBy(desc(changes.sequence)).limit(1)
  let seen = newest?.sequence ?? 0
  let prunedAt = Date.now()
  let closed = false
  let polling: Promise<void> | null = null
  let again = false

  async function poll(): Promise<void> {
    const news = await database.select().from(changes).where(gt(changes.sequence, seen)).orderBy(changes.sequence)
    seen = news.at(-1)?.sequence ?? seen
    for (const { topics, subject, onChange } of news.length === 0 ? [] : [...listeners]) {
      if (news.some((change) => topics.includes(change.topic) && (subject === undefined || subject === change.subject))) onChange()
    }
    if (Date.now() - prunedAt < pruneEveryMs) return
    prunedAt = Date.now()
    await database.write((orm) => [orm.delete(changes).where(lt(changes.at, new Date(Date.now() - keptMs)))])
  }

  function look(): void {
    if (closed) return
    if (polling) {
      again = true
      return
    }
    polling = poll()
      .catch(onError)
      .finally(() => {
        polling = null
        const missed = again
        again = false
        if (missed) look()
      })
  }

  const timer = setInterval(look, pollMs)
  const stopListening = database.onChange(look)
  return {
    listen({ topics, subject }, onChange) {
      const listener = { topics, subject, onChange }
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    async close() {
      closed = true
      clearInterval(timer)
      stopListening()
      await polling
      listeners.clear()
    },
  }
}
