/** Checks a Promela model exhaustively: Debian's spin makes a C program of it, and that visits every state there is. */
import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface Checked {
  /** Name of the assertion that does not hold; null when all of them hold in every state. */
  violated: string | null
  states: number
}

/**
 * @param definitions of the model's preprocessor, such as `FAULTS=2`
 * @param large a search of many states: its program is optimised, which takes longer than a small search
 * Throws where the search could not be finished: a syntax error, more memory than 3.5 GiB, an assertion without a name.
 */
export async function checkModel(
  model: string,
  definitions: string[],
  { large = false, signal }: { large?: boolean; signal?: AbortSignal } = {},
): Promise<Checked> {
  const directory = await mkdtemp(join(tmpdir(), 'portolan-model-'))
  try {
    await copyFile(model, join(directory, 'model.pml'))
    const options = { cwd: directory, maxBuffer: 16 * 1024 * 1024, ...(signal ? { signal } : {}) }
    await run('spin', [...definitions.map((definition) => `-D${definition}`), '-a', 'model.pml'], options)
    await run('gcc', [large ? '-O2' : '-O0', '-w', '-DSAFETY', '-DMEMLIM=3500', '-o', 'pan', 'pan.c'], options)
    // -E: a standstill is no error by itself; the model has an assertion about how it looks then. -m: longer paths than the model has.
    const { stdout } = await run(join(directory, 'pan'), ['-E', '-m100000'], options)
    const violated = /^pan:\d+: assertion violated (\w+)/m.exec(stdout)?.[1] ?? null
    const errors = Number(/errors: (\d+)/.exec(stdout)?.[1])
    const cutShort = /max search depth too small|out of memory|reached -DMEMLIM/.exec(stdout)
    if (!Number.isFinite(errors) || cutShort || (errors > 0 && !violated))
      throw new Error(`The search did not end as it should:\n${stdout}`)
    return { violated, states: Number(/(\S+) states, stored/.exec(stdout)?.[1]) }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}
