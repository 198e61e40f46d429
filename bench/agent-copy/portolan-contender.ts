import { memoryAuthorityStore } from '../../src/agent-gateway/authority-store.ts'
import { createAgentGateway } from '../../src/agent-gateway/gateway.ts'
import type { AgentSession } from '../../src/agent-gateway/agent-session.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import { artifacts } from '../../setup/artifacts.ts'
import type { AgentRole, RoundMode } from '../../src/transfer/control-protocol.ts'
import type { Contender, Copied } from './contender.ts'
import { diskSerial, type Guest } from './guest.ts'

/** Where a guest in QEMU's user-mode network finds this machine's loopback. */
const controlPlaneHost = '10.0.2.2'
const transferPort = 7443
/** In the guests' RAM. */
export const agentDirectory = '/dev/shm/portolan-agent'
const patience = { timeoutMs: 120_000 }

/** The agents of this repository, driven by its gateway as the control plane does. A round ends when the destination has re-read and verified its blocks. */
export async function createPortolanContender(
  source: Guest,
  destination: Guest,
  signal: AbortSignal,
): Promise<Contender & { close(): Promise<void> }> {
  const gateway = await createAgentGateway({
    authorityStore: memoryAuthorityStore(),
    sealKey: sealKeyOf(Buffer.alloc(32, 1)),
    log: (level, message) => void (level === 'warn' || level === 'error' ? process.stderr.write(`${message}\n`) : undefined),
  })
  for (const guest of [source, destination]) {
    const bundle = artifacts().agentBundleDirectory
    await guest.run(`mkdir -p ${agentDirectory} && tar -xf - -C ${agentDirectory}`, `${bundle}/bundle.tar`)
    await guest.run(`cd ${agentDirectory} && ./unpack/run node && rm -r unpack`, `${bundle}/node.zst`)
  }
  let migration = 0
  let agents: { source: AgentSession; destination: AgentSession } | null = null

  async function round(number: number, mode: RoundMode): Promise<Copied> {
    const startedAt = performance.now()
    const result = await agents!.source.request('round.run', { round: number, mode }, { signal, timeoutMs: 600_000 })
    if (number > 1 && result.mode !== mode) throw new Error(`Round ${number} was ${result.mode} instead of ${mode}: tracking lost events.`)
    return { seconds: (performance.now() - startedAt) / 1000, bytesSent: result.bytesSent }
  }

  return {
    name: 'portolan',
    async prepare() {
      migration += 1
      const opened = await gateway.openMigration(`bench-${migration}`)
      const start = async (guest: Guest, role: AgentRole): Promise<AgentSession> => {
        const port = gateway.addresses[0]!.port
        await guest.put(`${agentDirectory}/bootstrap.json`, JSON.stringify(opened.bootstrap(role, [{ host: controlPlaneHost, port }])))
        await guest.run(`cd ${agentDirectory} && rm -f agent-key.pem && (setsid ./run ${role} bootstrap.json </dev/null >agent.log 2>&1 &)`)
        return opened.agent(role, { ...patience, signal })
      }
      agents = { destination: await start(destination, 'DESTINATION'), source: await start(source, 'SOURCE') }
      await agents.destination.request('transfer.connect', { listenPort: transferPort, ...patience }, patience)
      await agents.destination.request('receive.start', { disk: diskSerial, empty: true }, patience)
      const endpoints = [{ host: destination.linkAddress, port: transferPort }]
      await agents.source.request('transfer.connect', { endpoints, ...patience }, patience)
      const { mode, reason } = await agents.source.request('tracking.start', { disk: source.diskDevice }, patience)
      if (mode !== 'TRACEFS') throw new Error(`The source agent can't track changes: ${reason}`)
    },
    firstCopy: () => round(1, 'FULL'),
    deltaRound: () => round(2, 'CHANGED'),
    async finish() {
      if (agents) for (const agent of [agents.source, agents.destination]) await agent.request('exit', {}, patience)
      agents = null
      await gateway.closeMigration(`bench-${migration}`)
    },
    close: () => gateway.close(),
  }
}
