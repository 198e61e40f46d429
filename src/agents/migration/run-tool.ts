import { execFile } from 'node:child_process'

export interface ToolOptions {
  timeoutMs?: number
  maxOutputBytes?: number
  /** What it printed counts, whatever it says at its end. */
  anyExit?: boolean
  /** Kills it, and whoever waits hears of that once it has ended. */
  signal?: AbortSignal
}

/** Runs a program of the guest with an argument list, and gives its output. Rejects with one sentence that carries what it said. */
export function runTool(program: string, args: string[], options: ToolOptions = {}): Promise<string> {
  const { timeoutMs = 30_000, maxOutputBytes = 1024 * 1024, anyExit = false, signal } = options
  return new Promise((resolve, reject) => {
    const limits = { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: maxOutputBytes, cwd: '/' } as const
    const child = execFile(program, args, limits, (error, stdout, stderr) => {
      signal?.removeEventListener('abort', kill)
      // A program that was not found, or was killed, has no number; one that the guest can't run prints nothing.
      if (!error || (anyExit && typeof error.code === 'number' && stdout !== '')) return resolve(stdout)
      const said = stderr.trim().split('\n').at(-1) ?? ''
      reject(new Error(`${program} ${args.slice(0, 8).join(' ')} failed: ${said || error.message}`, { cause: error }))
    })
    // Not by execFile's own `signal`, which lets a program live that doesn't heed SIGTERM.
    const kill = () => child.kill('SIGKILL')
    signal?.addEventListener('abort', kill)
    if (signal?.aborted) kill()
  })
}
