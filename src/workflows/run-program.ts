import { execFile } from 'node:child_process'

export interface ProgramEnd {
  /** 0 where it did what it was to. */
  exitCode: number
  output: string
  errors: string
}

/** Runs a program of this machine without a shell. Throws the signal's reason where that ended it, and an Error where it can't be started. */
export async function runProgram(program: string, args: readonly string[], signal: AbortSignal | undefined): Promise<ProgramEnd> {
  signal?.throwIfAborted()
  // Debian keeps mke2fs and its like where only root's path looks.
  const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` }
  return await new Promise((done, fail) => {
    execFile(program, args, { env, maxBuffer: 64 << 20, ...(signal ? { signal } : {}) }, (error, output, errors) => {
      if (!error) return done({ exitCode: 0, output, errors })
      if (signal?.aborted) return fail(signal.reason)
      if (typeof error.code === 'number') return done({ exitCode: error.code, output, errors })
      fail(error)
    })
  })
}
