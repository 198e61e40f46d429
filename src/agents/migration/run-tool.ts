import { execFile } from 'node:child_process'

/** Runs a program of the guest with an argument list, and gives its output. Rejects with one sentence that carries what it said. */
export function runTool(program: string, args: string[], timeoutMs = 30_000): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 1024 * 1024, cwd: '/' }, (error, stdout, stderr) => {
      if (!error) return resolve(stdout)
      const said = stderr.trim().split('\n').at(-1) ?? ''
      reject(new Error(`${program} ${args.join(' ')} failed: ${said || error.message}`, { cause: error }))
    })
  })
}
