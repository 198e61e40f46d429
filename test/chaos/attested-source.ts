/** The source's host loses its power, somebody attests that it is dead, and it returns all the same. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { hasEnded } from '../support/scenario-site.ts'
import { attest } from './campaign-documents.ts'
import type { Injected } from './faults.ts'
import type { Stage } from './stage.ts'

/** So long the word may be acted on before it turns out to be wrong. */
const returnsWithinMs = 10_000

export async function attestedThoughItReturns(stage: Stage, migrationId: string, say: (line: string) => void): Promise<Injected> {
  const { scenario, site } = stage
  await site.cutPower(scenario.source)
  return async () => {
    try {
      if (await attested(stage, migrationId, say)) await untilEnded(stage, migrationId)
    } finally {
      await site.restorePower(scenario.source)
    }
  }
}

/** Whether it was accepted. If it is refused, or nobody is there to take it, it must do no harm either. */
async function attested({ scenario }: Stage, migrationId: string, say: (line: string) => void): Promise<boolean> {
  const input = { idempotencyKey: randomUUID(), migrationId, statement: 'Its host burns, as far as anybody can see.' }
  const { attestSourceDead } = await scenario
    .api()
    .run<{ attestSourceDead: { attestation?: { id: string }; message?: string } }>(attest, { input })
    .catch((error: unknown) => ({ attestSourceDead: { message: String(error) } }))
  const accepted = 'attestation' in attestSourceDead
  say(accepted ? 'the attestation was accepted' : `the attestation was not accepted: ${attestSourceDead.message}`)
  return accepted
}

async function untilEnded({ scenario }: Stage, migrationId: string): Promise<void> {
  for (const deadline = performance.now() + returnsWithinMs; performance.now() < deadline; await delay(500)) {
    const present = await scenario.progress(migrationId).catch(() => null)
    if (present && hasEnded(present)) return
  }
}
