/** Two real agent processes on loop devices of this machine, with a real gateway. Needs root and /dev/loop*. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync, truncateSync, writeFileSync, openSync, closeSync, readFileSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { memoryAuthorityStore } from '../../src/agent-gateway/authority-store.ts'
import { createAgentGateway, type AgentGateway, type MigrationAgents } from '../../src/agent-gateway/gateway.ts'
import type { AgentSession } from '../../src/agent-gateway/agent-session.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import type { AgentRole } from '../../src/transfer/control-protocol.ts'

const agentMain = new URL('../../src/agents/migration/main.ts', import.meta.url).pathname

export interface LoopDisk {
  /** Such as `loop3`. */
  name: string
  path: string
  imagePath: string
}

export interface AgentPair {
  directory: string
  gateway: AgentGateway
  agents: MigrationAgents
  source: LoopDisk
  destination: LoopDisk
  processes: Record<AgentRole, ChildProcess>
  session(role: AgentRole): Promise<AgentSession>
  /** Starts an agent's process anew, as after a reboot of its guest. */
  restart(role: AgentRole): Promise<AgentSession>
  log(role: AgentRole): string
  close(): Promise<void>
}

export function attachLoop(imagePath: string): LoopDisk {
  const path = execFileSync('losetup', ['--find', '--show', '--direct-io=on', imagePath], { encoding: 'utf8' }).trim()
  return { name: path.slice('/dev/'.length), path, imagePath }
}

export function detachLoop(disk: LoopDisk): void {
  execFileSync('losetup', ['--detach', disk.path])
}

export async function startAgentPair(diskBytes: { source: number; destination: number }): Promise<AgentPair> {
  const directory = mkdtempSync(join(tmpdir(), 'portolan-agents-'))
  // The guard of an agent that was killed takes its tracefs away a moment later; until then the directory holds a mount.
  const removeDirectory = () => rmSync(directory, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 })
  const undo: (() => void | Promise<void>)[] = [removeDirectory]
  async function close(): Promise<void> {
    for (const step of undo.splice(0).toReversed()) await step()
  }
  try {
    const loops = (['source', 'destination'] as const).map((name) => {
      const imagePath = join(directory, `${name}.img`)
      closeSync(openSync(imagePath, 'w'))
      truncateSync(imagePath, diskBytes[name])
      const loop = attachLoop(imagePath)
      undo.push(() => detachLoop(loop))
      return loop
    })
    const [source, destination] = loops
    if (!source || !destination) throw new Error('No loop devices.')
    const gateway = await createAgentGateway({
      authorityStore: memoryAuthorityStore(),
      sealKey: sealKeyOf(Buffer.alloc(32, 3)),
      log: () => {},
    })
    undo.push(() => gateway.close())
    const agents = await gateway.openMigration('m-pair')
    const processes = {} as Record<AgentRole, ChildProcess>
    function start(role: AgentRole): void {
      const own = join(directory, role)
      mkdirSync(own, { recursive: true })
      const bootstrap = join(own, 'bootstrap.json')
      writeFileSync(bootstrap, JSON.stringify(agents.bootstrap(role, gateway.addresses)))
      const log = openSync(join(own, 'agent.log'), 'a')
      processes[role] = spawn(process.execPath, [agentMain, role, bootstrap], { stdio: ['ignore', log, log], cwd: own })
      closeSync(log)
    }
    async function end(role: AgentRole, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
      const child = processes[role]
      if (child.exitCode !== null || child.signalCode !== null) return
      const exited = new Promise((resolve) => child.once('exit', resolve))
      child.kill(signal)
      await exited
    }
    for (const role of ['SOURCE', 'DESTINATION'] as const) {
      start(role)
      undo.push(() => end(role, 'SIGTERM'))
    }
    const session = (role: AgentRole) => agents.agent(role, { timeoutMs: 15_000 })
    return {
      directory,
      gateway,
      agents,
      source,
      destination,
      processes,
      session,
      async restart(role) {
        await end(role, 'SIGKILL')
        await agents.reissue(role)
        start(role)
        return session(role)
      },
      log: (role) => readFileSync(join(directory, role, 'agent.log'), 'utf8'),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}
