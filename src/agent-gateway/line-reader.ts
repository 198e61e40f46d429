import type { Readable } from 'node:stream'

/**
 * Splits a byte stream into UTF-8 lines, with bounds on what a peer can make us hold: `maxLineBytes` a line, `partialLineMs` from
 * a line's first byte to its newline. The first violation ends the reading: `onViolation` is called once, and no line after it.
 */
export function readLines(
  stream: Readable,
  limits: { maxLineBytes: number; partialLineMs: number },
  on: { line: (line: string) => void; violation: (reason: string) => void },
): { stop(): void } {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let held: Buffer[] = []
  let heldBytes = 0
  let timer: NodeJS.Timeout | undefined
  let stopped = false

  function stop(): void {
    stopped = true
    held = []
    clearTimeout(timer)
    stream.off('data', onData)
    stream.off('close', stop)
  }
  function violate(reason: string): void {
    stop()
    on.violation(reason)
  }
  function hold(bytes: Buffer): void {
    if (bytes.length === 0) return
    held.push(bytes)
    heldBytes += bytes.length
    timer ??= setTimeout(() => violate(`a line was not finished within ${limits.partialLineMs} ms`), limits.partialLineMs)
  }
  function take(): string | null {
    const bytes = held.length === 1 ? held[0]! : Buffer.concat(held, heldBytes)
    held = []
    heldBytes = 0
    clearTimeout(timer)
    timer = undefined
    try {
      return decoder.decode(bytes)
    } catch {
      return null
    }
  }
  function onData(chunk: Buffer): void {
    for (let from = 0; ;) {
      const newline = chunk.indexOf(0x0a, from)
      const end = newline === -1 ? chunk.length : newline
      if (heldBytes + end - from > limits.maxLineBytes) return violate(`a line is longer than ${limits.maxLineBytes} bytes`)
      hold(chunk.subarray(from, end))
      if (newline === -1) return
      from = newline + 1
      const line = take()
      if (line === null) return violate('a line is not UTF-8')
      on.line(line)
      if (stopped) return
    }
  }
  stream.on('data', onData)
  stream.on('close', stop)
  return { stop }
}
