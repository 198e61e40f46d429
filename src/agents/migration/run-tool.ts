import { execFile } from 'node:child_process'

export interface ToolOptions {
  timeoutMs?: number
  maxOutputBytes?: number
  /** What it printed counts, whatever it says at its end. */
  anyExit?: boolean
}

/** Runs a program of the guest with an argument list, and gives its output. Rejects with one sentence that carries what it said. */
export function runTool(program: string, args: string[], options: ToolOptions = {}): Promise<string> {
  const { timeoutMs = 30_000, maxOutputBytes = 1024 * 1024, anyExit = false } = options
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: maxOutputBytes, cwd: '/' }, (error, stdout, stderr) => {
      // A program that was not found, or was killed, has no number; one that the guest can't run prints nothing.
      if (!error || (anyExit && typeof error.code === 'number' && stdout !== '')) return resolve(stdout)
      const said = stderr.trim().split('\n').at(-1) ?? ''
      reject(new Error(`${program} ${args.slice(0, 8).join(' ')} failed: ${said || error.message}`, { cause: error }))
    })
  })
}
