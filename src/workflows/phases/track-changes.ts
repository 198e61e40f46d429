import type { AgentSession } from '../../agent-gateway/agent-session.ts'
import type { Finding } from '../../domain/finding.ts'
import { bothAgents } from '../agent-link.ts'
import { done, type Phase, type PhaseContext } from '../phase.ts'
import { resultOf } from './phase-facts.ts'

export const trackChanges: Phase = {
  name: 'TRACK_CHANGES',
  control: 'PAUSABLE',
  timeoutMs: 5 * 60_000,
  needsSourceGuest: true,
  async do(context) {
    const { source } = await bothAgents(context)
    await startTracking(context, source, resultOf(context, 'CONNECT_AGENTS').disk)
    return done
  },
  // Tracking ends with the agent.
  undo: null,
}

/** Asking an agent that tracks already is answered as the first time. */
export async function startTracking(context: PhaseContext, source: AgentSession, disk: string): Promise<void> {
  const { signal, settings, migration } = context
  const { mode, reason } = await source.request(
    'tracking.start',
    { disk, excludedDirectories: migration.request.excludedDirectories ?? [] },
    { signal, timeoutMs: settings.timings.requestMs },
  )
  const finding: Finding = {
    code: 'ROUNDS_RESCAN',
    severity: 'WARNING',
    message: `The source's kernel can't tell what changes on its disk (${reason ?? 'no reason given'}), so each round reads and hashes all of it.`,
    remedy: 'Mount tracefs with block events in the guest for shorter rounds, or permit a longer downtime.',
  }
  const known = migration.findings.some(({ code }) => code === finding.code)
  await context.store.write(migration, {
    patch: { trackingMode: mode, ...(mode === 'RESCAN' && !known ? { findings: [...migration.findings, finding] } : {}) },
    events: mode === 'RESCAN' ? [{ kind: 'NOTICE', phase: 'TRACK_CHANGES', message: finding.message }] : [],
  })
}
