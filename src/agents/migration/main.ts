/**
 * The migration agent: `node agent.mjs <SOURCE|DESTINATION> <bootstrap.json>`. In a source guest it runs on a tmpfs of its own; in a destination it runs in
 * the landing image. It ends when the control plane says so, or on SIGTERM, and leaves nothing mounted or traced; what it froze is thawed by its watchdog.
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

/** Standard error is a file on tmpfs, or the console. */
const log = (message: string): void => void process.stderr.write(`${message}\n`)

async function main(role: string | undefined, path: string | undefined): Promise<void> {
  if (!path) throw new Error('Usage: agent.mjs <SOURCE|DESTINATION> <bootstrap.json>')
  const bootstrap = parseBootstrap(readFileSync(path, 'utf8'))
  if (role?.toUpperCase() !== bootstrap.role) throw new Error(`${path} is for the ${bootstrap.role} agent, not for ${role}.`)
  const agentInstanceId = randomUUID()
  const directory = dirname(resolve(path))
  const ending = new AbortController()
  const identity = await enrol(bootstrap, join(directory, 'agent-key.pem'), ending.signal, log)

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

main(process.argv[2], process.argv[3]).catch((error: unknown) => {
  log(error instanceof Error ? error.message : String(error))
  process.exit(1)
})
