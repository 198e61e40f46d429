/**
 * Work that goes on between an engine's steps: a step waits for a slice of time, and the next one finds the work again. After a restart it begins anew, from what is in
 * the database.
 */
import { wait } from './wait.ts'

export interface BackgroundRuns {
  /** Starts the work unless it is under way, and waits a slice. True once it has ended; rejects with what it threw, and the next call starts it anew. */
  advance(key: string, work: (signal: AbortSignal) => Promise<void>): Promise<boolean>
  /** Ends the work whose key is chosen, and waits for its end. */
  stop(isChosen: (key: string) => boolean, reason: Error): Promise<void>
  /** Ends all of it with the reason, and begins none. */
  close(reason: Error): Promise<void>
}

export function createBackgroundRuns(sliceMs: number): BackgroundRuns {
  const shutdown = new AbortController()
  const running = new Map<string, { ended: Promise<void>; stop: AbortController }>()

  async function stop(isChosen: (key: string) => boolean, reason: Error): Promise<void> {
    const chosen = [...running].filter(([key]) => isChosen(key)).map(([, run]) => run)
    for (const run of chosen) run.stop.abort(reason)
    await Promise.allSettled(chosen.map(({ ended }) => ended))
  }

  return {
    async advance(key, work) {
      shutdown.signal.throwIfAborted()
      let run = running.get(key)
      if (!run) {
        const controller = new AbortController()
        run = { stop: controller, ended: work(controller.signal).finally(() => running.delete(key)) }
        running.set(key, run)
        // Between two slices nobody waits: what fails then is begun anew by the next one.
        run.ended.catch(() => {})
      }
      const slice = new AbortController()
      try {
        return await Promise.race([run.ended.then(() => true), wait(sliceMs, slice.signal).then(() => false)])
      } finally {
        slice.abort()
      }
    },
    stop,
    async close(reason) {
      shutdown.abort(reason)
      await stop(() => true, reason)
    },
  }
}
