/** Reads the text of tracefs' `block_rq_complete` events. Pure. */

export interface WrittenSectors {
  /** In sectors of 512 bytes from the disk's start. */
  firstSector: number
  sectorCount: number
}

export interface TraceParser {
  /** Takes the next piece of `trace_pipe`, and gives the writes in it. A line that it can't read counts as lost. */
  push(text: string): WrittenSectors[]
  /** True once trace_pipe said, or an unreadable line suggests, that events are missing. */
  readonly lost: boolean
}

/**
 * `… block_rq_complete: 254,0 WS () 2048 + 8 [0]`, from Linux 6.10 on with an I/O priority before the bracket. Writes are all completions whose rwbs doesn't
 * start with R and whose length isn't 0: zero-outs show as `N…`, discards as `D…`, flushes have no length.
 */
const completion = /block_rq_complete: \d+,\d+ ([A-Z]+) \(.*?\) (\d+) \+ (\d+) /

export function createTraceParser(): TraceParser {
  let rest = ''
  let lost = false
  return {
    push(text) {
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      return lines.flatMap((line) => {
        const match = completion.exec(line)
        if (!match) {
          // `CPU:0 [LOST 12 EVENTS]`, or an event of a form unknown here.
          if (line.includes('LOST') || line.includes('block_rq_complete')) lost = true
          return []
        }
        const [, rwbs, firstSector, sectorCount] = match
        const write = !rwbs?.startsWith('R') && Number(sectorCount) > 0
        return write ? [{ firstSector: Number(firstSector), sectorCount: Number(sectorCount) }] : []
      })
    },
    get lost() {
      return lost
    },
  }
}
