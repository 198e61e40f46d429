import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { runTool } from './run-tool.ts'

/** In sectors of 512 bytes, from the start of the file system's device. */
export interface SectorRange {
  start: number
  end: number
}

/** So many paths go into one call; the kernel bounds the length of a command line. */
const maxPaths = 200
const maxPathBytes = 100_000
const maxOutputBytes = 256 * 1024 * 1024
/** What an extent may be: of this file alone, on the device, at a place that is settled. */
const settled = new Set(['last', 'eof', 'unwritten', 'merged'])
const extentLine = /^ *\d+: +\d+\.\. *\d+: +(\d+)\.\. *\d+: +(\d+):(.*)$/

/**
 * Where the data of regular files lies, from the kernel (FIEMAP), by the `filefrag` that comes with the agent. What has no settled place of its own yet, or shares it
 * with another file, is left away; a file that vanished has none. The paths hold no control characters, so that no name can be taken for an answer. `onFiles` hears how
 * many more were asked for. The signal ends it, and the tool with it.
 */
export async function fileExtents(paths: readonly string[], onFiles: (count: number) => void, signal: AbortSignal): Promise<SectorRange[]> {
  const [program, ...args] = filefrag()
  const ranges: SectorRange[] = []
  for (let from = 0; from < paths.length;) {
    let bytes = 0
    let end = from
    while (end < paths.length && end - from < maxPaths && bytes < maxPathBytes) bytes += Buffer.byteLength(paths[end++] ?? '')
    const output = await runTool(program, [...args, '-v', '-b512', ...paths.slice(from, end)], { maxOutputBytes, anyExit: true, signal })
    // One by one: a call that spreads as many arguments as there are extents would overflow the stack.
    for (const range of parseExtents(output)) ranges.push(range)
    onFiles(end - from)
    from = end
  }
  return ranges
}

/** Of `filefrag -v -b512`. Pure. */
export function parseExtents(output: string): SectorRange[] {
  return output.split('\n').flatMap((line) => {
    const [, start, length, flags] = extentLine.exec(line) ?? []
    if (start === undefined || length === undefined || flags === undefined) return []
    // The column before the flags, `expected`, is a number.
    const names = flags.split(':').at(-1)!.trim().split(',').filter(Boolean)
    if (Number(length) === 0 || !names.every((name) => settled.has(name))) return []
    return [{ start: Number(start), end: Number(start) + Number(length) }]
  })
}

/** The one in the agent's bundle is started by the loader and with the C library that came with it: the guest's may be others. */
function filefrag(): [program: string, ...args: string[]] {
  const libraries = join(import.meta.dirname, 'lib')
  const own = join(libraries, 'filefrag')
  return existsSync(own) ? [join(libraries, 'ld-linux-x86-64.so.2'), '--library-path', libraries, own] : ['filefrag']
}
