import { maxLineBytes } from './child-messages.ts'
import { TransferError } from './transfer-error.ts'

/** Cuts what comes from a child VM into lines. Holds one line that is not complete yet, of at most `maxLineBytes`. */
export function createChildLines(): { push(chunk: Buffer): string[] } {
  let pieces: Buffer[] = []
  let heldBytes = 0
  return {
    /** Throws TransferError PROTOCOL where a line is too long; nothing that comes later can be read then. */
    push(chunk) {
      const lines: string[] = []
      let from = 0
      for (let end = chunk.indexOf(0x0a); end !== -1; end = chunk.indexOf(0x0a, from)) {
        hold(chunk.subarray(from, end))
        lines.push(pieces.length === 1 ? pieces[0]!.toString('utf8') : Buffer.concat(pieces).toString('utf8'))
        pieces = []
        heldBytes = 0
        from = end + 1
      }
      // A copy: the chunk's own buffer may be large, and used again.
      if (from < chunk.length) hold(Buffer.from(chunk.subarray(from)))
      return lines
    },
  }

  function hold(piece: Buffer): void {
    heldBytes += piece.length
    if (heldBytes > maxLineBytes)
      throw new TransferError(
        'PROTOCOL',
        `The child VM sent a line of more than ${maxLineBytes} bytes. It is given up, and its tasks go to another one.`,
        {
          retryable: true,
        },
      )
    pieces.push(piece)
  }
}
