/**
 * Tells subscribers which rows are others now, whichever control plane on this database wrote them: polls the table `changes`, and looks at once
 * after a write of this process. It names what changed and carries no content: subscribers read anew, so a slow one skips what it missed.
 */
import { desc, gt, lt } from 'drizzle-orm'
import type { Change, Database } from './client.ts'
import { changes } from './tables/change.ts'

export interface ChangeFeed {
  /**
   * The changes from now on: of a topic, or of one subject in it. Changes of one subject that the consumer didn't take in time come as one. Subscribe first,
   * then read the present state: what changes in between comes as a change. Ends when `signal` aborts, the consumer leaves, or the feed closes.
   */
  subscribe(filter: { topic: Change['topic']; subject?: string | undefined }, signal?: AbortSignal): AsyncIterableIterator<Change>
  close(): Promise<void>
}

interface Subscriber {
  topic: Change['topic']
  subject: string | undefined
  pending: Map<string, Change>
  wake: () => void
}

const keptMs = 10 * 60_000
const pruneEveryMs = 60_000

/** `onError` hears of a poll that failed; the next one tries again. */
export async function createChangeFeed(
  database: Database,
  { pollMs = 200, onError = () => {} }: { pollMs?: number; onError?: (error: unknown) => void } = {},
): Promise<ChangeFeed> {
  const subscribers = new Set<Subscriber>()
  const [newest] = await database.select({ sequence: changes.sequence }).from(changes).orderBy(desc(changes.sequence)).limit(1)
  let seen = newest?.sequence ?? 0
  let prunedAt = Date.now()
  let closed = false
  let polling: Promise<void> | null = null
  let again = false

  async function poll(): Promise<void> {
    const news = await database.select().from(changes).where(gt(changes.sequence, seen)).orderBy(changes.sequence)
    for (const { topic, subject } of news) {
      for (const subscriber of subscribers) {
        if (subscriber.topic !== topic || (subscriber.subject !== undefined && subscriber.subject !== subject)) continue
        subscriber.pending.set(subject, { topic, subject })
        subscriber.wake()
      }
    }
    seen = news.at(-1)?.sequence ?? seen
    if (Date.now() - prunedAt < pruneEveryMs) return
    prunedAt = Date.now()
    await database.write((orm) => [orm.delete(changes).where(lt(changes.at, new Date(Date.now() - keptMs)))])
  }

  function look(): void {
    if (closed) return
    if (polling) again = true
    else {
      polling = poll()
        .catch(onError)
        .finally(() => {
          polling = null
          const missed = again
          again = false
          if (missed) look()
        })
    }
  }

  const timer = setInterval(look, pollMs)
  const stopListening = database.onChange(look)
  return {
    subscribe({ topic, subject }, signal) {
      const subscriber: Subscriber = { topic, subject, pending: new Map(), wake: () => {} }
      // Registered before the first `next()`, so that nothing is lost while the consumer reads the present state.
      if (!closed) subscribers.add(subscriber)
      return drain(subscriber, subscribers, signal)
    },
    async close() {
      closed = true
      clearInterval(timer)
      stopListening()
      await polling
      const left = [...subscribers]
      subscribers.clear()
      for (const subscriber of left) subscriber.wake()
    },
  }
}

function drain(subscriber: Subscriber, subscribers: Set<Subscriber>, signal: AbortSignal | undefined): AsyncIterableIterator<Change> {
  const done: IteratorReturnResult<undefined> = { done: true, value: undefined }
  const leave = () => {
    subscribers.delete(subscriber)
    subscriber.wake()
  }
  if (signal?.aborted) leave()
  signal?.addEventListener('abort', leave, { once: true })
  return {
    async next() {
      while (subscribers.has(subscriber)) {
        const [first] = subscriber.pending
        if (first) {
          subscriber.pending.delete(first[0])
          return { done: false, value: first[1] }
        }
        await new Promise<void>((wake) => (subscriber.wake = wake))
      }
      return done
    },
    async return() {
      signal?.removeEventListener('abort', leave)
      leave()
      return done
    },
    [Symbol.asyncIterator]() {
      return this
    },
  }
}
