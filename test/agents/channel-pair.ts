/** Two ends of a data connection within this process, over which frames go in order; `losesAt` sees what the source sends, and says when the link is lost instead. */
import { linkLost, type Channel } from '../../src/transfer/channel.ts'
import type { Frame } from '../../src/transfer/frame.ts'
import type { TransferError } from '../../src/transfer/transfer-error.ts'

export function channelPair(losesAt: (type: number) => boolean = () => false): { source: Channel; destination: Channel } {
  const closed = Promise.withResolvers<TransferError>()
  let open = true
  function close(reason: TransferError): void {
    open = false
    closed.resolve(reason)
  }
  function end(lost: (type: number) => boolean) {
    const waiting: Frame[] = []
    let handler: ((frame: Frame) => void) | null = null
    const next = () => (open && handler ? waiting.shift() : undefined)
    function deliver(): void {
      try {
        for (let frame = next(); frame; frame = next()) handler?.(frame)
      } catch (error) {
        close(error as TransferError)
      }
    }
    return {
      async take(type: number, sequence: number, parts: Buffer[]): Promise<void> {
        if (open && lost(type)) close(linkLost('as the test wants it'))
        if (!open) throw await closed.promise
        // The sender uses its buffers again.
        const payload = Buffer.concat(parts)
        waiting.push({ type, sequence, payload: [payload], payloadBytes: payload.length })
        setImmediate(deliver)
      },
      start(onFrame: (frame: Frame) => void): void {
        handler = onFrame
        setImmediate(deliver)
      },
    }
  }
  const [toDestination, toSource] = [end(losesAt), end(() => false)]
  const channel = (own: ReturnType<typeof end>, peer: ReturnType<typeof end>): Channel => ({
    send: (type, sequence, ...parts) => peer.take(type, sequence, parts),
    start: own.start,
    pause() {},
    resume() {},
    wireBytes: 0,
    closed: closed.promise,
    close,
  })
  return { source: channel(toSource, toDestination), destination: channel(toDestination, toSource) }
}
