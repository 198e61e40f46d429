/** The agents in the guests of the fake world, as the gateway would give them. */
import { AgentError } from '../../../src/agent-gateway/agent-error.ts'
import type { AgentSession } from '../../../src/agent-gateway/agent-session.ts'
import type { AgentGateway, MigrationAgents } from '../../../src/agent-gateway/gateway.ts'
import type {
  AgentHello,
  AgentRole,
  ControlMethod,
  ControlRequests,
  RoundProgress,
  RoundResult,
} from '../../../src/transfer/control-protocol.ts'
import type { CallHook } from './fake-clouds.ts'
import type { FakeWorld, WorldState } from './fake-world.ts'

export interface FakeGateway extends AgentGateway {
  closed: string[]
  /** As `kill -9` of it has it, in a landing image. */
  restartDestinationAgent(): void
  /** Whether the source's agent is dialled in. It does what it was told all the same. */
  sourceConnected: boolean
  /** How many wait to hear that the destination's agent has ended. */
  readonly listenersForDestination: number
  /** As the source's agent does while a round runs. */
  reportProgress(progress: RoundProgress): void
}

/** `pendingMs`: what the source's agent estimates for the rest after each round. */
export function createFakeGateway(world: FakeWorld, options: { hook?: CallHook; pendingMs?: (round: number) => number } = {}): FakeGateway {
  const hook = options.hook ?? (() => {})
  const closed: string[] = []
  const listeners = new Set<(progress: RoundProgress) => void>()
  const destinationListeners = new Set<(reason: AgentError) => void>()

  function session(role: AgentRole, migrationId: string): AgentSession {
    return {
      get hello() {
        return hello(role, migrationId, world.look())
      },
      // A guest that stands still is silent, and its connection is given up before long.
      get connected() {
        return role === 'DESTINATION' || (gateway.sourceConnected && world.look().source.power === 'RUNNING')
      },
      onClosed(listener) {
        if (role === 'DESTINATION') destinationListeners.add(listener)
        return () => void destinationListeners.delete(listener)
      },
      onProgress: () => () => {},
      async request<M extends ControlMethod>(
        method: M,
        params: ControlRequests[M][0],
        { signal }: { signal?: AbortSignal; timeoutMs: number },
      ) {
        const call = `${role}.${method}`
        await Promise.race([hook(call, 'before'), signal && aborted(signal)])
        if (signal?.aborted) throw new AgentError('CANCELLED', 'Cancelled.', { retryable: false })
        const answers = role === 'SOURCE' ? sourceAnswers : destinationAnswers
        const answer = world.change(call, (state) => {
          if (role === 'SOURCE' && state.source.power !== 'RUNNING')
            throw new AgentError('TIMED_OUT', 'The guest is suspended.', { retryable: true })
          return (answers[method] as (state: WorldState, params: ControlRequests[M][0]) => ControlRequests[M][1])(state, params)
        })
        if (method === 'round.run') for (const listener of listeners) listener(progressOf(answer as RoundResult))
        await hook(call, 'after')
        return answer
      },
    }
  }

  const sourceAnswers: { [M in ControlMethod]?: (state: WorldState, params: ControlRequests[M][0]) => ControlRequests[M][1] } = {
    'transfer.connect': () => ({ via: 'DIRECT' }),
    'tracking.start': () => ({ mode: 'TRACEFS', reason: null }),
    interfaces: () => ({ nics: [{ mac: '52:54:00:00:00:01', name: 'eth0' }] }),
    'round.run': (state, { round, mode }) => (state.rounds[round] ??= copy(state, round, mode)),
    'round.stop': () => ({}),
    'bandwidth.set'(state, { limitBytesPerSecond }) {
      state.limit = limitBytesPerSecond
      return {}
    },
    freeze(state, { freezeId, leaseMs }) {
      state.source.freeze = { id: freezeId, until: Date.now() + leaseMs, void: false }
      return { frozen: ['/'], freezeMs: 1 }
    },
    /** The command is what it does: its exit code, after as many milliseconds. */
    'hook.run'(_state, { command, environment }) {
      return { exitCode: Number(command[0]), timedOut: false, output: Object.values(environment).join(' '), outputBytes: 9 }
    },
    'freeze.renew'(state, { freezeId, leaseMs }) {
      const { freeze } = state.source
      if (!freeze || freeze.id !== freezeId || freeze.void) return { held: false }
      freeze.until = Date.now() + leaseMs
      return { held: true }
    },
    thaw(state, { freezeId }) {
      const held = state.source.freeze?.id === freezeId && !state.source.freeze.void
      if (state.source.freeze?.id === freezeId) state.source.freeze = null
      return { held }
    },
    root: (state) => ({ root: String(state.content), blocks: 1 }),
  }

  const destinationAnswers: typeof sourceAnswers = {
    'transfer.connect': () => ({ via: 'DIRECT' }),
    'receive.start'(state) {
      state.receiver = destinationInstance(state)
      return {}
    },
    root: (state) => ({ root: String(target(state).content), blocks: 1 }),
    fixUp(state) {
      if (state.receiver !== destinationInstance(state))
        throw new AgentError('AGENT_FAILED', 'The agent has no disk.', { retryable: false })
      return { steps: [{ step: 'interfaces', changed: true, detail: 'eth0 keeps its name.' }] }
    },
  }

  function copy(state: WorldState, round: number, mode: RoundResult['mode']): RoundResult {
    if (target(state).sealed) state.violations.push('a round wrote to a sealed copy')
    const changedBytes = (state.content - target(state).content) * 65_536
    target(state).content = state.content
    const frozen = state.source.freeze && !state.source.freeze.void
    if (frozen && state.limit !== null) state.violations.push('a round was limited while the source stood still')
    return {
      round,
      mode,
      changedBytes,
      bytesSent: changedBytes,
      verifiedBytes: changedBytes,
      durationMs: 1,
      pendingBytes: frozen ? 0 : 65_536,
      estimatedTransferMs: frozen ? 0 : (options.pendingMs?.(round) ?? 1),
      estimatedVerifyMs: 1,
      rescanNeeded: false,
    }
  }

  const gateway: FakeGateway = {
    closed,
    sourceConnected: true,
    restartDestinationAgent() {
      world.change('DESTINATION.agent killed', (state) => (target(state).agentStarts = (target(state).agentStarts ?? 1) + 1))
      const reason = new AgentError('AGENT_RESTARTED', 'The DESTINATION agent was started again.', { retryable: true })
      for (const listener of destinationListeners) listener(reason)
      destinationListeners.clear()
    },
    get listenersForDestination() {
      return destinationListeners.size
    },
    reportProgress(progress) {
      for (const listener of listeners) listener(progress)
    },
    addresses: [{ host: '127.0.0.1', port: 1 }],
    relayAddresses: [{ host: '127.0.0.1', port: 2 }],
    async openMigration(migrationId): Promise<MigrationAgents> {
      const enrolled = new Set<AgentRole>()
      return {
        migrationId,
        relayToken: 'token',
        bootstrap: (role, controlPlane) => ({
          migrationId,
          role,
          controlPlane,
          serverName: 'fake',
          caCertificatePem: '',
          enrolmentToken: 'once',
        }),
        hasEnrolled: (role) => enrolled.has(role),
        async reissue(role) {
          enrolled.delete(role)
        },
        async agent(role, { signal, timeoutMs }) {
          const waited = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])])
          await Promise.race([hook(`${role}.agent`, 'before'), aborted(waited)])
          if (waited.aborted) throw new AgentError('AGENT_UNREACHABLE', `The ${role} agent did not dial in.`, { retryable: true })
          const state = world.look()
          const there = role === 'SOURCE' ? state.source.agentInstance !== null : landing(state) !== undefined
          if (!there) throw new AgentError('AGENT_UNREACHABLE', `The ${role} agent did not dial in.`, { retryable: true })
          enrolled.add(role)
          return session(role, migrationId)
        },
        onProgress(_role, listener) {
          listeners.add(listener)
          return () => void listeners.delete(listener)
        },
      }
    },
    async closeMigration(migrationId) {
      closed.push(migrationId)
    },
    async close() {},
  }
  return gateway
}

function aborted(signal: AbortSignal): Promise<void> {
  return signal.aborted ? Promise.resolve() : new Promise((resolve) => signal.addEventListener('abort', () => resolve()))
}

function landing(state: WorldState) {
  return Object.entries(state.machines).find(([, { system, power }]) => system === 'LANDING' && power === 'RUNNING')
}

function destinationInstance(state: WorldState): string {
  const [vmId, machine] = landing(state) ?? ['none', null]
  return `${vmId}.${machine?.agentStarts ?? 1}`
}

function target(state: WorldState) {
  const found = landing(state)
  if (!found) throw new AgentError('AGENT_UNREACHABLE', 'The destination runs no landing image.', { retryable: true })
  return found[1]
}

function hello(role: AgentRole, migrationId: string, state: WorldState): AgentHello {
  return {
    protocol: { major: 1, minor: 0 },
    role,
    migrationId,
    agentInstanceId: role === 'SOURCE' ? (state.source.agentInstance ?? 'none') : destinationInstance(state),
    bootId: 'boot',
    architecture: 'x86_64',
    kernelRelease: '6.1',
    libc: 'glibc 2.36',
    memoryTotalBytes: 2 ** 30,
    memoryAvailableBytes: 2 ** 29,
    disks: [{ name: 'vda', sizeBytes: 2 ** 31, serial: null, mounts: [], root: true, swap: false }],
  }
}

function progressOf(result: RoundResult): RoundProgress {
  const { round, changedBytes, bytesSent, verifiedBytes } = result
  return {
    round,
    scannedBytes: 2 ** 31,
    totalBytes: 2 ** 31,
    changedBytes,
    bytesSent,
    verifiedBytes,
    rateBytesPerSecond: 1e6,
    etaMs: 0,
    bottleneck: null,
    changeRateBytesPerSecond: null,
  }
}
