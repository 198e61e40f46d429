import { and, eq } from 'drizzle-orm'
import type { Database, Transaction } from '../database/client.ts'
import { concurrencyLimits } from '../database/tables/admission.ts'
import { clouds } from '../database/tables/cloud.ts'
import { hosts } from '../database/tables/topology.ts'
import { defaultConcurrencyLimits, type ConcurrencyScope, type Need } from '../domain/admission.ts'
import { PortolanError } from '../domain/errors.ts'
import { translated } from './failure.ts'
import type { Idempotency } from './idempotency.ts'
import type { LimitEntry, Operations } from './operations.ts'

const mostAtOnce = 1_000

/** Of a need: the limit of that cloud or host, else that of its kind, else the default. */
export async function limitsIn(database: Pick<Transaction | Database, 'select'>): Promise<(need: Need) => number> {
  const rows = await database.select().from(concurrencyLimits)
  const limits = new Map(rows.map(({ scope, subject, limit }) => [`${scope}:${subject}`, limit]))
  return (need) => {
    const scope = need.slice(0, need.indexOf(':')) as ConcurrencyScope
    return limits.get(need) ?? limits.get(`${scope}:`) ?? defaultConcurrencyLimits[scope]
  }
}

export function createLimitOperations(idempotency: Idempotency): Pick<Operations, 'setConcurrencyLimits'> {
  return {
    setConcurrencyLimits: (actor, input) =>
      translated(async () => {
        for (const [index, { limit }] of input.limits.entries())
          if (limit !== null && !(Number.isInteger(limit) && limit >= 0 && limit <= mostAtOnce))
            throw invalid(`must be from 0 to ${mostAtOnce}, and was ${limit}`, ['input', 'limits', `${index}`, 'limit'])
        await idempotency.once(actor, 'setConcurrencyLimits', input, (commit) =>
          commit(async (tx) => {
            for (const [index, entry] of input.limits.entries()) await setLimit(tx, entry, index)
            return {}
          }, []),
        )
      }),
  }
}

async function setLimit(tx: Transaction, { scope, subject, limit }: LimitEntry, index: number): Promise<void> {
  const table = scope === 'CLOUD' ? clouds : scope === 'HOST' ? hosts : null
  const known = subject === null || (table && (await tx.select({ id: table.id }).from(table).where(eq(table.id, subject))).length > 0)
  if (!known)
    throw new PortolanError('NOT_FOUND', `There is no ${scope.toLowerCase()} ${JSON.stringify(subject)}; nothing was changed.`, {
      retryable: false,
      remedy: 'Read the ids from `clouds`.',
      path: ['input', 'limits', `${index}`],
    })
  const row = { scope, subject: subject ?? '' }
  if (limit === null)
    await tx.delete(concurrencyLimits).where(and(eq(concurrencyLimits.scope, row.scope), eq(concurrencyLimits.subject, row.subject)))
  else
    await tx
      .insert(concurrencyLimits)
      .values({ ...row, limit })
      .onConflictDoUpdate({ target: [concurrencyLimits.scope, concurrencyLimits.subject], set: { limit } })
}

function invalid(rule: string, path: readonly string[]): PortolanError {
  return new PortolanError('INVALID_INPUT', `${path.join('.')} ${rule}. Nothing was changed.`, {
    retryable: false,
    remedy: 'Correct it and send the call again.',
    path,
  })
}
