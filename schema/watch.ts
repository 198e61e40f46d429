import { Repeater } from 'graphql-yoga'
import type { Changes } from './context.ts'

/**
 * The stream behind a subscription: what `read` gives, at once and after each change. Changes that come while a slow subscriber is still at work
 * are coalesced, since each reading gives the present. Ends when `read` gives `{ last: true }`, or when the subscriber leaves.
 */
export function watch<Event>(
  changes: Changes,
  interest: Parameters<Changes['listen']>[0],
  read: () => Promise<{ events: Event[]; last: boolean }>,
): AsyncIterable<Event> {
  return new Repeater<Event>(async (push, stop) => {
    const signal = { changed: true, left: false, wake: () => {} }
    // Listening begins before the first reading, so that no change falls between them.
    const ignore = changes.listen(interest, () => {
      signal.changed = true
      signal.wake()
    })
    const leave = () => {
      signal.left = true
      signal.wake()
    }
    void stop.then(leave)
    try {
      while (!signal.left) {
        signal.changed = false
        const { events, last } = await read()
        for (const event of events) await push(event)
        if (last) return
        if (!signal.changed && !signal.left) await new Promise<void>((wake) => (signal.wake = wake))
      }
    } finally {
      ignore()
      stop()
    }
  })
}
