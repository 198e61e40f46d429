import type { Socket } from 'node:net'

/** Longer lines end the connection: nothing in the protocol comes near. */
const maxLineBytes = 1024 * 1024

/** Calls `onValue` with each line's JSON value; `onBroken` once, with the reason, when a line is none. */
export function readJsonLines(socket: Socket, onValue: (value: unknown) => void, onBroken: (reason: string) => void): void {
  let rest = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = rest.toString('utf8', 0, end)
      rest = rest.subarray(end + 1)
      let value: unknown
      try {
        value = JSON.parse(line)
      } catch {
        return onBroken('a line is not JSON')
      }
      onValue(value)
    }
    if (rest.length > maxLineBytes) onBroken('a line is too long')
  })
}
