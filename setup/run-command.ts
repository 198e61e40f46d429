import { spawn } from 'node:child_process'

export interface CommandOptions {
  /** Ends the command with SIGTERM. */
  signal?: AbortSignal | undefined
  cwd?: string
  environment?: NodeJS.ProcessEnv
  /** Longest time it may take. */
  timeoutMs?: number
}

/**
 * Runs a program without a shell and resolves to its standard output. Throws an Error with the last lines that it printed when it can't be
 * started, exits other than 0, or is ended by `signal` or the time-out.
 */
export async function runCommand(command: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const timeoutMs = options.timeoutMs ?? 15 * 60_000
  const limit = AbortSignal.timeout(timeoutMs)
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: options.signal ? AbortSignal.any([options.signal, limit]) : limit,
    ...(options.cwd ? { cwd: options.cwd } : {}),
    // Debian keeps debootstrap, mke2fs and others where only root's path looks.
    env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, ...options.environment },
  })
  const output: Buffer[] = []
  const both: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => void (output.push(chunk), both.push(chunk)))
  child.stderr.on('data', (chunk: Buffer) => void both.push(chunk))
  const end = await new Promise<string>((done) => {
    let failure: Error | undefined
    child.on('error', (error) => {
      failure = error
      // A program that never started has no `close`.
      if (child.pid === undefined) done(error.message)
    })
    child.on('close', (code, signal) => {
      if (code === 0) done('')
      else if (limit.aborted) done(`it took longer than ${timeoutMs / 1000} s`)
      else done(failure?.message ?? (signal ? `ended by ${signal}` : `exit code ${code}`))
    })
  })
  if (end === '') return Buffer.concat(output).toString()
  const printed = Buffer.concat(both).toString().trim().split('\n').slice(-15).join('\n')
  throw new Error(`${command} failed (${end})${printed ? `; it printed last:\n${printed}` : ''}`)
}
