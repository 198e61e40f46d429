import type { Socket } from 'node:net'

/** Longer lines end the connection: nothing in the protocol comes near. */
const maxLineBytes = 1024 * 1024

/** Calls `onValue` with each line's JSON value; `onBroken` once, with the reason, when a line is none. Nothing is read after that. */
export function readJsonLines(socket: Socket, onValue: (value: unknown) => void, onBroken: (reason: string) => void): void {
  let rest = Buffer.alloc(0)
  function onData(chunk: Buffer): void {
    rest = Buffer.concat([rest, chunk])
    for (let end = rest.indexOf(10); end >= 0 && end <= maxLineBytes; end = rest.indexOf(10)) {
      const line = rest.toString('utf8', 0, end)
      rest = rest.subarray(end + 1)
      let value: unknown
      try {
        value = JSON.parse(line)
      } catch {
        return fail('a line is not JSON')
      }
      onValue(value)
    }
    if (rest.length > maxLineBytes) fail('a line is too long')
  }
  function fail(reason: string): void {
    socket.off('data', onData)
    onBroken(reason)
  }
  socket.on('data', onData)
}
