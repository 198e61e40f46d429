import { execFile } from 'node:child_process'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { ProviderError } from '../../src/plugin-sdk/index.ts'

const run = promisify(execFile)

/** A tool that a killed plugin had started ends by itself, and holds its image until then. */
const lockedFor = { tries: 20, pauseMs: 100 }
const isLocked = (error: unknown) => /Failed to get .*lock/.test((error as { stderr?: string }).stderr ?? '')

async function runUnlocked(...[program, toolArguments, options]: Parameters<typeof run>): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return void (await run(program, toolArguments, options))
    } catch (error) {
      if (tries === lockedFor.tries || !isLocked(error)) throw error
      await pause(lockedFor.pauseMs)
    }
  }
}

/** Runs a program without a shell, in `cwd`. Throws ProviderError with what it wrote to stderr; INSUFFICIENT_CAPACITY where that says that the disk is full. */
export async function runTool(
  program: string,
  toolArguments: string[],
  options: { cwd: string; signal?: AbortSignal | undefined; timeoutMs: number },
): Promise<void> {
  try {
    await runUnlocked(program, toolArguments, {
      cwd: options.cwd,
      timeout: options.timeoutMs,
      env: { PATH: process.env['PATH'], LC_ALL: 'C' },
      ...(options.signal && { signal: options.signal }),
    })
  } catch (error) {
    if (options.signal?.aborted)
      throw new ProviderError('CANCELLED', `${program} was stopped, because the call was cancelled.`, {
        retryable: true,
        remedy: 'Repeat the call with the same operation id, or undo it.',
        cause: error,
      })
    const { stderr, code, killed } = error as { stderr?: string; code?: string | number; killed?: boolean }
    const said =
      stderr?.trim() || (code === 'ENOENT' ? 'it is not installed' : killed ? `no end within ${options.timeoutMs} ms` : String(code))
    const full = said.includes('No space left')
    throw new ProviderError(
      full ? 'INSUFFICIENT_CAPACITY' : killed ? 'TIMED_OUT' : 'INTERNAL',
      `${program} failed in ${options.cwd}: ${said}`,
      {
        retryable: !full,
        remedy: full ? 'Free disk space and call again.' : `Check that ${program} is installed and works, then call again.`,
        cause: error,
      },
    )
  }
}
