/**
 * The migration agent: `node agent.mjs <SOURCE|DESTINATION> <bootstrap.json>`. In a source guest it runs on a tmpfs of its own; in a destination it runs in
 * the landing image. It ends when the control plane says so, or on SIGTERM, and leaves nothing frozen, mounted or traced.
 */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { parseBootstrap } from '../../transfer/control-messages.ts'
import type { RoundProgress } from '../../transfer/control-protocol.ts'
import { enrol, openControlLink, type ControlLink } from './control-link.ts'
import { createDestinationAgent } from './destination-agent.ts'
import { gatherHello } from './guest-facts.ts'
import { createSourceAgent } from './source-agent.ts'

/**
 * Under QEMU's own CPU model without hardware help, OpenSSL picks vector code that is emulated at half the speed of its plain code (measured: ChaCha20-Poly1305 at
 * 56 against 119 MiB/s). It reads this when the process begins, so the process begins again, under the same id. Bits cleared: SSSE3, AVX and all that builds on it.
 */
const plainCode = '~0x1000020000000000:~0xffffffff'
function avoidEmulatedVectors(): void {
  const cpu = readFileSync('/proc/cpuinfo', 'latin1')
  const emulatesVectors = /^model name\s*: QEMU (TCG|Virtual) CPU/m.test(cpu) && /^flags\s*:.*\bssse3\b/m.test(cpu)
  if (!emulatesVectors || process.env['OPENSSL_ia32cap'] !== undefined || !process.execve) return
  process.execve(process.execPath, [process.execPath, ...process.execArgv, ...process.argv.slice(1)], {
    ...process.env,
    OPENSSL_ia32cap: plainCode,
  })
}

/** Standard error is a file on tmpfs, or the console. */
const log = (message: string): void => void process.stderr.write(`${message}\n`)

async function main(role: string | undefined, path: string | undefined): Promise<void> {
  if (!path) throw new Error('Usage: agent.mjs <SOURCE|DESTINATION> <bootstrap.json>')
  const bootstrap = parseBootstrap(readFileSync(path, 'utf8'))
  if (role?.toUpperCase() !== bootstrap.role) throw new Error(`${path} is for the ${bootstrap.role} agent, not for ${role}.`)
  const agentInstanceId = randomUUID()
  const directory = dirname(resolve(path))
  const ending = new AbortController()
  const identity = await enrol(bootstrap, join(directory, 'agent-key.pem'), ending.signal)

  let link: ControlLink | null = null
  const report = (progress: RoundProgress) => link?.report(progress)
  const agent =
    bootstrap.role === 'SOURCE'
      ? createSourceAgent({ identity, directory, report, log })
      : createDestinationAgent({ identity, agentInstanceId, log })

  async function end(): Promise<void> {
    link?.close()
    await agent.close()
    process.exit(0)
  }
  process.once('SIGTERM', () => void end())
  process.once('SIGINT', () => void end())
  const exit = async () => {
    // Not answered: the link's end is the answer.
    setImmediate(() => void end())
    return new Promise<never>(() => {})
  }
  link = openControlLink(bootstrap, identity, () => gatherHello(bootstrap, agentInstanceId), { ...agent.handlers, exit }, log)
}

avoidEmulatedVectors()
main(process.argv[2], process.argv[3]).catch((error: unknown) => {
  log(error instanceof Error ? error.message : String(error))
  process.exit(1)
})
