/** Holds the source still for one small round, and no longer than a cutover might: what is at the destination is then of one moment, as after a power cut. */
import { randomUUID } from 'node:crypto'
import { areJoined, bothAgents, type BothAgents } from './agent-link.ts'
import type { PhaseContext } from './phase.ts'
import { leavesNothing, runRound } from './round-run.ts'

/** Freezes that a busy or restarted source may spoil before it is given up. */
const maxTries = 3

/**
 * How long the source stood still for it, in milliseconds. Null: not now, since the operator paused the migration, or an agent was started again and wants a round that
 * compares everything. Whatever happens, the source is told to thaw. Throws AgentError, and an Error that says what couldn't be done.
 */
export async function copyOfOneMoment(context: PhaseContext): Promise<number | null> {
  const agents = await bothAgents(context)
  if (!areJoined(context, agents)) return null
  for (let tries = 1; tries <= maxTries; tries++) {
    const since = performance.now()
    const outcome = await roundUnderFreeze(context, agents)
    if (outcome === 'PAUSED') return null
    if (outcome === 'HELD') return Math.round(performance.now() - since)
  }
  throw new Error('The source could not be held still for a copy of one moment; it goes on.')
}

async function roundUnderFreeze(context: PhaseContext, agents: BothAgents): Promise<'HELD' | 'SPOILT' | 'PAUSED'> {
  const { leases, signal, settings, migration } = context
  const { leaseMs } = settings.timings
  const permitted = AbortSignal.timeout(migration.permittedDowntimeMs)
  // Another one each time: a freeze that has ended is never held again.
  const freezeId = randomUUID()
  let lapsed: AbortSignal | null = null
  const round = async () => {
    const lease = await leases.begin(freezeId, agents.source, leaseMs, AbortSignal.any([signal, permitted]))
    lapsed = lease.signal
    return runRound(context, agents, { mode: 'CHANGED', frozen: true }, AbortSignal.any([signal, permitted, lapsed]))
  }
  const [outcome] = await Promise.allSettled([round()])
  leases.drop(freezeId)
  // Also when we end. Where it can't be told, the watchdog in the guest has thawed by then.
  const [thaw] = await Promise.allSettled([agents.source.request('thaw', { freezeId }, { timeoutMs: leaseMs })])
  if (outcome.status === 'fulfilled') {
    if (!outcome.value) return 'PAUSED'
    return leavesNothing(outcome.value) && thaw.status === 'fulfilled' && thaw.value.held ? 'HELD' : 'SPOILT'
  }
  signal.throwIfAborted()
  if (permitted.aborted) throw tookTooLong(migration.permittedDowntimeMs)
  if ((lapsed as AbortSignal | null)?.aborted) return 'SPOILT'
  throw outcome.reason
}

function tookTooLong(permittedDowntimeMs: number): Error {
  const seconds = permittedDowntimeMs / 1000
  return new Error(
    `A copy of one moment took longer than the permitted downtime of ${seconds} s, so the source was let go on; calm the workload and ask for another test, or cancel the migration and retry it with a longer one (\`changes.permittedDowntimeMs\` of \`retryMigration\`).`,
  )
}
