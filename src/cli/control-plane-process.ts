import { spawn, type ChildProcess } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { ConfigurationInput } from '../configuration.ts'

const root = resolve(import.meta.dirname, '../..')

const endsWithinMs = 90_000

export interface ControlPlaneProcess {
  /** Of the GraphQL endpoint. */
  url: string
  /** The first administrator's token; empty when the data directory had one already. */
  token: string
  process: ChildProcess
  /** SIGTERM, then waits for its end. @throws Error when it has to be killed. */
  stop(): Promise<void>
}

/** Starts the control plane as any user would (src/main.ts with a configuration) and waits until it says that it is ready. Its log goes to control-plane.log in `directory`. */
export async function startControlPlane(directory: string, configuration: ConfigurationInput): Promise<ControlPlaneProcess> {
  const file = join(directory, 'portolan.config.json')
  await writeFile(file, JSON.stringify({ dataDirectory: join(directory, 'data'), ...configuration }, null, 2))
  // A control plane that was started for a demo or a test must not outlive it, however it ends.
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', process.execPath, join(root, 'src/main.ts'), '--config', file, '--json'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const log = createWriteStream(join(directory, 'control-plane.log'), { flags: 'a' })
  child.stderr.pipe(log)

  const ended = new Promise<number>((done) => child.once('exit', (code) => done(code ?? 1)))
  const ready = await Promise.race([
    readyLine(child),
    ended.then((code) => {
      throw new Error(`The control plane ended with code ${code} before it was ready; its log is ${join(directory, 'control-plane.log')}.`)
    }),
  ])
  return {
    ...ready,
    process: child,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
      let overdue = false
      const patience = setTimeout(() => {
        overdue = true
        child.kill('SIGKILL')
      }, endsWithinMs)
      await ended
      clearTimeout(patience)
      if (overdue) throw new Error(`The control plane did not end within ${endsWithinMs / 1000} s of SIGTERM, and was killed.`)
    },
  }
}

/** With --json the control plane's standard output is one line: `{"ready": {"url", "token"}}`. */
async function readyLine(child: ChildProcess): Promise<{ url: string; token: string }> {
  for await (const line of createInterface({ input: child.stdout! })) {
    const said = JSON.parse(line) as { ready?: { url: string; token: string | null } }
    if (said.ready) return { url: said.ready.url, token: said.ready.token ?? '' }
  }
  return new Promise(() => {})
}
