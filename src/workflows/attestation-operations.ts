import { randomUUID } from 'node:crypto'
import { attestations } from '../database/tables/attestation.ts'
import { PortolanError } from '../domain/errors.ts'
import { canBeAttested } from '../domain/verdict-actions.ts'
import { translated } from './failure.ts'
import type { Idempotency } from './idempotency.ts'
import type { Operations } from './operations.ts'
import { isReconcilable } from './reconciliation-operations.ts'
import type { MachineVerdict, VerdictReader } from './verdict-reader.ts'

export type AttestationOperations = Pick<Operations, 'attestSourceDead'>

const readTimeoutMs = 120_000

export function createAttestationOperations(dependencies: {
  verdicts: VerdictReader
  idempotency: Idempotency
  /** What waits for the word looks again. */
  wake: () => void
}): AttestationOperations {
  const { verdicts, idempotency, wake } = dependencies
  return {
    /** Looked at first: a word against what answers is refused, and it is bound to the attempt that was seen. */
    attestSourceDead: (actor, input) =>
      translated(async () => {
        const answer = await idempotency.once<{ attestationId: string }>(actor, 'attestSourceDead', input, async (commit) => {
          const { of, statement } = input
          const question = 'migrationId' in of ? { migrationIds: [of.migrationId] } : { cloudId: of.cloudId }
          const found = await verdicts.read(question, AbortSignal.timeout(readTimeoutMs))
          const verdict = found.find(({ uniqueId }) => 'migrationId' in of || uniqueId === of.uniqueId)
          const { uniqueId, cloudId, migrationId, attempt } = requireAttestable(verdict)
          const id = randomUUID()
          return commit(async (tx) => {
            await tx
              .insert(attestations)
              .values({ id, cloudId, uniqueId, migrationId, attempt, statement, tokenId: actor.tokenId, at: new Date() })
            return { attestationId: id }
          }, [])
        })
        wake()
        return answer
      }),
  }
}

function requireAttestable(verdict: MachineVerdict | undefined) {
  if (!verdict || !isReconcilable(verdict))
    throw new PortolanError('NOT_FOUND', 'No site that could be read has records of a migration of this machine; nothing was stored.', {
      retryable: true,
      remedy: 'See `migrationVerdicts` of the cloud that it went to.',
      path: ['input'],
    })
  const { standing, source, uniqueId, migrationId, attempt } = verdict
  if (standing.verdict === 'UNKNOWN')
    throw refusal(
      `nobody can read whether it has been moved (${verdict.destination.message})`,
      "Wait until the destination's site answers.",
      true,
    )
  if (!canBeAttested(standing.source))
    throw refusal(`its source answers: ${source.message}`, 'Send reconcileMigrations, which fences it or lets it go on.', false)
  return { uniqueId, migrationId, attempt, cloudId: verdict.destination.cloudId }
}

function refusal(because: string, remedy: string, retryable: boolean): PortolanError {
  return new PortolanError('NOT_ALLOWED_NOW', `The attestation was refused, since ${because}. Nothing was stored.`, {
    retryable,
    remedy,
    path: ['input'],
  })
}
