/**
 * The control plane's side of the migration agents: one listener and one relay for all migrations, one authority for each.
 * A migration is opened again after a restart of the control plane, and its agents, which redial for ever, come back by themselves.
 */
import type { AgentBootstrap, AgentRole, RoundProgress } from '../transfer/control-protocol.ts'
import { AgentError } from './agent-error.ts'
import { createAgentListener, type ListenAddress, type OpenMigration } from './agent-listener.ts'
import { createAgentRoster } from './agent-roster.ts'
import type { AgentSession } from './agent-session.ts'
import type { AuthorityStore } from './authority-store.ts'
import type { GatewayLog } from './gateway-log.ts'
import { defaultListenerLimits, type ListenerLimits } from './listener-limits.ts'
import { createMigrationTrust, serverNameOf } from './migration-trust.ts'
import { createRelay, defaultRelayLimits, type RelayLimits } from './relay.ts'
import { loadOrMakeAuthority, saveAuthority, type AuthoritySeal } from './stored-authority.ts'

export interface MigrationAgents {
  readonly migrationId: string
  /** For `transfer.connect`'s relay; the same for both roles, valid until closeMigration. A secret: never in a workflow's result. */
  readonly relayToken: string
  /** The same answer each time (so that a repeated install brings what the first did) until `reissue`. Holds a secret. */
  bootstrap(role: AgentRole, controlPlaneAddresses: AgentBootstrap['controlPlane']): AgentBootstrap
  /** Whether an agent has come with that bootstrap. One that hasn't may still be starting. */
  hasEnrolled(role: AgentRole): boolean
  /**
   * For an agent that lost its key (its guest was rebooted, it was installed afresh): a new token for `bootstrap`. The agent enrolled before is shut out,
   * and its session ends with AGENT_RESTARTED.
   */
  reissue(role: AgentRole): Promise<void>
  /** The connected agent; waits for it to dial in. Throws AgentError: AGENT_UNREACHABLE, CANCELLED, MIGRATION_CLOSED. */
  agent(role: AgentRole, options: { signal?: AbortSignal; timeoutMs: number }): Promise<AgentSession>
  /** Progress of whichever session the role has. Returns what stops the listening. */
  onProgress(role: AgentRole, listener: (progress: RoundProgress) => void): () => void
}

export interface AgentGateway {
  /** Where agents dial in, and where they find the relay. */
  readonly addresses: ListenAddress[]
  readonly relayAddresses: ListenAddress[]
  /** Idempotent: opens it, from the store when it is there, or gives the open one. The id: lower-case letters, digits and hyphens, at most 63. */
  openMigration(migrationId: string): Promise<MigrationAgents>
  /** Shuts the agents out and destroys the authority, in the store too. Idempotent. */
  closeMigration(migrationId: string): Promise<void>
  /** Ends listening and all connections; stored authorities stay. */
  close(): Promise<void>
}

interface Opened extends OpenMigration {
  agents: MigrationAgents
  end(reason: AgentError): void
}

export async function createAgentGateway(options: {
  /** Loopback, any free port, when absent. */
  listen?: ListenAddress[]
  relayListen?: ListenAddress[]
  authorityStore: AuthorityStore
  sealKey: AuthoritySeal
  log: GatewayLog
  limits?: Partial<ListenerLimits>
  relayLimits?: Partial<RelayLimits>
}): Promise<AgentGateway> {
  const { authorityStore, sealKey, log } = options
  const loopback = [{ host: '127.0.0.1', port: 0 }]
  const opening = new Map<string, Promise<Opened>>()
  const byServerName = new Map<string, Opened>()

  const listener = await createAgentListener({
    listen: options.listen ?? loopback,
    limits: { ...defaultListenerLimits, ...options.limits },
    find: (serverName) => byServerName.get(serverName.toLowerCase()),
    log,
  })
  const relay = await createRelay({
    listen: options.relayListen ?? loopback,
    limits: { ...defaultRelayLimits, ...options.relayLimits },
    log,
  }).catch(async (error: unknown) => {
    await listener.close()
    throw error
  })

  async function open(migrationId: string): Promise<Opened> {
    if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(migrationId)) {
      throw new TypeError(
        `"${migrationId.slice(0, 80)}" can't name a migration to its agents: lower-case letters, digits and hyphens, at most 63.`,
      )
    }
    const stored = await loadOrMakeAuthority(migrationId, authorityStore, sealKey)
    const trust = await createMigrationTrust(migrationId, stored, (next) => saveAuthority(migrationId, next, authorityStore, sealKey))
    const roster = createAgentRoster(migrationId)
    relay.admit(trust.relayToken)
    const opened: Opened = {
      migrationId,
      trust,
      admit: roster.admit,
      agents: {
        migrationId,
        relayToken: trust.relayToken,
        bootstrap: trust.bootstrap,
        hasEnrolled: trust.hasEnrolled,
        agent: roster.agent,
        onProgress: roster.onProgress,
        async reissue(role) {
          await trust.reissue(role)
          const message = `The ${role} agent of migration ${migrationId} was replaced by a newer one.`
          roster.end(role, new AgentError('AGENT_RESTARTED', message, { retryable: true }))
        },
      },
      end(reason) {
        byServerName.delete(serverNameOf(migrationId))
        relay.expel(trust.relayToken)
        roster.close(reason)
      },
    }
    byServerName.set(serverNameOf(migrationId), opened)
    return opened
  }

  return {
    addresses: listener.addresses,
    relayAddresses: relay.addresses,
    async openMigration(migrationId) {
      let opened = opening.get(migrationId)
      if (!opened) {
        opened = open(migrationId)
        opening.set(migrationId, opened)
        opened.catch(() => opening.delete(migrationId))
      }
      return (await opened).agents
    },
    async closeMigration(migrationId) {
      const opened = opening.get(migrationId)
      opening.delete(migrationId)
      const reason = new AgentError('MIGRATION_CLOSED', `Migration ${migrationId} has ended, and its agents with it.`, { retryable: false })
      if (opened) (await opened.catch(() => null))?.end(reason)
      await authorityStore.delete(migrationId)
    },
    async close() {
      const reason = new AgentError('MIGRATION_CLOSED', 'The control plane is ending; the migration goes on when it is back.', {
        retryable: true,
      })
      for (const opened of opening.values()) (await opened.catch(() => null))?.end(reason)
      opening.clear()
      await Promise.all([listener.close(), relay.close()])
    },
  }
}
