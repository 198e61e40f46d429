import { agentFindings } from '../../domain/agent-findings.ts'
import { PortolanError } from '../../domain/errors.ts'
import { joinAgents } from '../agent-link.ts'
import type { Phase, PhaseContext } from '../phase.ts'
import { createLostAgents } from './lost-agents.ts'
import { resultOf } from './phase-facts.ts'

export const connectAgents: Phase = {
  name: 'CONNECT_AGENTS',
  control: 'PAUSABLE',
  timeoutMs: 10 * 60_000,
  needsSourceGuest: true,
  async do(context) {
    await checkGuests(context)
    const { link } = await joinAgents(context, {
      destinationEmpty: !context.repeated && !resultOf(context, 'INSTANTIATE_DESTINATION').takenUp,
    })
    return { outcome: 'DONE', result: link }
  },
  // The agents end with their guests' parts: uninstall at the source, delete at the destination.
  undo: null,
}

async function checkGuests(context: PhaseContext): Promise<void> {
  // One that doesn't come, as from a landing image that hangs, is put there again.
  const agents = createLostAgents(context)
  // One after the other: nothing boots any more once this has thrown.
  const source = await agents.agent('SOURCE')
  const destination = await agents.agent('DESTINATION')
  const findings = agentFindings(source.hello, destination.hello, {
    otherAddresses: (context.migration.request.addressing ?? []).length > 0,
  })
  if (findings.length === 0) return
  const earlier = context.migration.findings.filter(({ code }) => !findings.some((finding) => finding.code === code))
  await context.store.write(context.migration, { patch: { findings: [...earlier, ...findings] } })
  const blockers = findings.filter(({ severity }) => severity === 'BLOCKER')
  if (blockers.length === 0) return
  throw new PortolanError('PRE_FLIGHT_FAILED', blockers.map(({ message }) => message).join(' '), {
    retryable: false,
    remedy: blockers.map(({ remedy }) => remedy).join(' '),
  })
}
