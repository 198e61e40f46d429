import { setTimeout as delay } from 'node:timers/promises'
import { hasEnded } from '../support/scenario-site.ts'
import { faults } from './faults.ts'
import { lookDuringFault } from './look-during-fault.ts'
import { phases, type PlannedFault } from './plan.ts'
import { isCommitted } from './seen-during-faults.ts'
import type { Stage } from './stage.ts'

interface Injection {
  timeoutMs: number
  /** Aborted: the run is over. */
  signal: AbortSignal
  say(line: string): void
  /** The fault has come, in this phase. */
  injected(phase: string): void
}

/** Waits for the fault's phase, also while the control plane is away, and for its moment; nothing is injected into a migration that has ended. What was injected is healed, also when it is aborted. */
export async function injectAndHeal(
  stage: Stage,
  id: string,
  planned: PlannedFault,
  { timeoutMs, signal, say, injected }: Injection,
): Promise<void> {
  const fault = faults.find(({ name }) => name === planned.name)!
  const at = phases.indexOf(planned.phase)
  for (const deadline = performance.now() + timeoutMs; ;) {
    if (performance.now() > deadline) throw new Error(`The migration did not come to ${planned.phase} within ${timeoutMs} ms.`)
    const present = await stage.scenario.progress(id).catch(() => null)
    if (stage.databaseWasLost() || (present && hasEnded(present))) return
    if (present && phases.indexOf(present.phase as (typeof phases)[number]) >= at) break
    await delay(200, undefined, { signal })
  }
  await delay(planned.delayMs, undefined, { signal })
  const present = await stage.scenario.progress(id).catch(() => null)
  stage.seenDuringFaults.committed ||= isCommitted(present)
  const phase = present?.phase ?? 'an unknown phase'
  const heal = await fault.inject(stage, { ...planned, migrationId: id, say })
  if (heal === 'NOTHING_THERE') return
  injected(phase)
  if (heal === 'HEALS_BY_ITSELF') return lookDuringFault(stage, id, { due: AbortSignal.abort(), over: signal })
  try {
    await untilItIsTimeToHeal(stage, id, planned.healAfterMs, signal)
  } finally {
    await heal()
  }
}

/** A fault does no more harm to a migration that has ended. */
async function untilItIsTimeToHeal(stage: Stage, id: string, healAfterMs: number, signal: AbortSignal): Promise<void> {
  const due = new AbortController()
  const looking = lookDuringFault(stage, id, { due: due.signal, over: signal })
  try {
    await untilEnded(stage, id, healAfterMs, signal)
  } finally {
    due.abort()
    await looking
  }
}

async function untilEnded(stage: Stage, id: string, healAfterMs: number, signal: AbortSignal): Promise<void> {
  for (const deadline = performance.now() + healAfterMs; performance.now() < deadline;) {
    await delay(Math.min(500, deadline - performance.now()), undefined, { signal })
    const present = stage.databaseWasLost() ? null : await stage.scenario.progress(id).catch(() => null)
    if (present && hasEnded(present)) return
  }
}
