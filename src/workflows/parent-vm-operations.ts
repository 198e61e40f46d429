/** What admins may do with parent VMs. Each writes what is wished and a further `run`; the workflow of that run does it. */
import { createHash, randomUUID } from 'node:crypto'
import { and, eq, inArray, isNull, ne, or } from 'drizzle-orm'
import type { Change, Transaction } from '../database/client.ts'
import { clouds } from '../database/tables/cloud.ts'
import { jobs } from '../database/tables/job.ts'
import { parentVmCopies, parentVms } from '../database/tables/parent-vm.ts'
import { PortolanError } from '../domain/errors.ts'
import { checkedName } from '../domain/migration-group-members.ts'
import { requireWithin } from '../domain/job-checks.ts'
import { jobLimits } from '../domain/job-limits.ts'
import { checkedRecipe, requireDefaultPrivileges } from '../domain/parent-recipe.ts'
import type { ParentRecipe } from '../domain/parent-vm.ts'
import { canonicalJson } from './canonical-json.ts'
import { translated } from './failure.ts'
import type { Idempotency } from './idempotency.ts'
import type { Actor } from './operations.ts'

export interface ParentVmOperations {
  /** Another recipe under the same name builds it anew; the same one builds again what failed, and at clouds that were connected since. `pausedChildren`: null leaves their number as it is, 0 at first. */
  registerParentVm(
    actor: Actor,
    input: { idempotencyKey: string; name: string; recipe: ParentRecipe; pausedChildren: number | null },
  ): Promise<{ parentVmId: string }>
  /** Its files at every cloud. Refused while a job uses it. */
  deleteParentVm(actor: Actor, input: { idempotencyKey: string; parentVmId: string }): Promise<{ parentVmId: string }>
}

type ParentVmRow = typeof parentVms.$inferSelect
type ParentVmAnswer = { parentVmId: string }

export function createParentVmOperations(dependencies: {
  idempotency: Idempotency
  engineId: string
  /** Hands the present run to the engine; a run that it knows already is left alone. Must not throw: what can't be submitted now is submitted later. */
  submitParent: (parentVmId: string) => Promise<void>
}): ParentVmOperations {
  const { idempotency, engineId, submitParent } = dependencies

  return {
    registerParentVm: (actor, input) =>
      translated(async () => {
        const id: string = randomUUID()
        const changed: Change = { topic: 'PARENT_VM', subject: id }
        const answer = await idempotency.once<ParentVmAnswer>(actor, 'registerParentVm', input, async (commit) => {
          const name = checkedName(input.name, ['input', 'name'])
          const recipe = checkedRecipe(input.recipe)
          const { pausedChildren } = input
          if (pausedChildren !== null) requireWithin(pausedChildren, [0, jobLimits.pausedChildren], ['pausedChildren'])
          return commit(
            async (tx) => {
              const [known] = await tx
                .select()
                .from(parentVms)
                .where(and(eq(parentVms.name, name), ne(parentVms.state, 'DELETED')))
              changed.subject = known?.id ?? id
              if ((pausedChildren ?? known?.pausedChildren ?? 0) > 0) requireDefaultPrivileges(recipe)
              if (known) await buildAgain(tx, known, recipe, engineId)
              else await insert(tx, { id, name, recipe, engineId })
              if (pausedChildren !== null)
                await tx
                  .update(parentVms)
                  .set({ pausedChildren, updatedAt: new Date() })
                  .where(eq(parentVms.id, known?.id ?? id))
              return { parentVmId: known?.id ?? id }
            },
            [changed],
          )
        })
        await submitParent(answer.parentVmId)
        return answer
      }),

    deleteParentVm: (actor, input) =>
      translated(async () => {
        const answer = await idempotency.once<ParentVmAnswer>(actor, 'deleteParentVm', input, (commit) =>
          commit(
            async (tx) => {
              const parent = await parentIn(tx, input.parentVmId)
              if (parent.state !== 'DELETING' && parent.state !== 'DELETED') {
                await requireUnused(tx, parent)
                await tx
                  .update(parentVms)
                  .set({ state: 'DELETING', run: parent.run + 1, problem: null, engineId, updatedAt: new Date() })
                  .where(eq(parentVms.id, parent.id))
              }
              return { parentVmId: parent.id }
            },
            [{ topic: 'PARENT_VM', subject: input.parentVmId }],
          ),
        )
        await submitParent(answer.parentVmId)
        return answer
      }),
  }
}

async function insert(
  tx: Transaction,
  { id, name, recipe, engineId }: { id: string; name: string; recipe: ParentRecipe; engineId: string },
): Promise<void> {
  const now = new Date()
  const recipeDigest = digestOf(recipe)
  await tx.insert(parentVms).values({ id, name, recipe, recipeDigest, state: 'REGISTERED', engineId, createdAt: now, updatedAt: now })
}

async function buildAgain(tx: Transaction, known: ParentVmRow, recipe: ParentRecipe, engineId: string): Promise<void> {
  if (known.state === 'DELETING')
    throw refusal(
      `registerParentVm of ${JSON.stringify(known.name)}`,
      'the one of that name is being deleted',
      'Wait until it is DELETED.',
      'name',
    )
  const recipeDigest = digestOf(recipe)
  const isAnother = recipeDigest !== known.recipeDigest
  if (!isAnother && known.state !== 'FAILED' && !(known.state === 'READY' && (await lacksCloud(tx, known)))) return
  await tx
    .update(parentVms)
    .set({
      ...(isAnother && { recipe, recipeDigest, generation: known.generation + 1, offers: null }),
      state: 'REGISTERED',
      run: known.run + 1,
      problem: null,
      engineId,
      updatedAt: new Date(),
    })
    .where(eq(parentVms.id, known.id))
}

/** A cloud was connected since it was built. */
async function lacksCloud(tx: Transaction, { id, generation }: ParentVmRow): Promise<boolean> {
  const copy = and(eq(parentVmCopies.cloudId, clouds.id), eq(parentVmCopies.parentVmId, id), eq(parentVmCopies.generation, generation))
  const lacking = await tx
    .select({ id: clouds.id })
    .from(clouds)
    .leftJoin(parentVmCopies, copy)
    .where(and(ne(clouds.state, 'DISCONNECTED'), or(isNull(parentVmCopies.state), eq(parentVmCopies.state, 'FAILED'))))
    .limit(1)
  return lacking.length > 0
}

function digestOf(recipe: ParentRecipe): string {
  return createHash('sha256').update(canonicalJson(recipe)).digest('hex')
}

async function parentIn(tx: Transaction, parentVmId: string): Promise<ParentVmRow> {
  const [parent] = await tx.select().from(parentVms).where(eq(parentVms.id, parentVmId))
  if (parent) return parent
  throw new PortolanError('NOT_FOUND', `There is no parent VM ${JSON.stringify(parentVmId)}; nothing was changed.`, {
    retryable: false,
    remedy: 'See `parentVms` for the ids.',
    path: ['input', 'parentVmId'],
  })
}

async function requireUnused(tx: Transaction, { id, name }: ParentVmRow): Promise<void> {
  const [job] = await tx
    .select({ name: jobs.name })
    .from(jobs)
    .where(and(eq(jobs.parentVmId, id), inArray(jobs.state, ['PENDING', 'RUNNING'])))
    .limit(1)
  if (job)
    throw refusal(
      `deleteParentVm of ${JSON.stringify(name)}`,
      `the job ${JSON.stringify(job.name)} uses it`,
      'Wait for the job to end, or cancel it.',
      'parentVmId',
    )
}

function refusal(what: string, because: string, remedy: string, field: string): PortolanError {
  return new PortolanError('NOT_ALLOWED_NOW', `${what} was refused, since ${because}; nothing was changed.`, {
    retryable: false,
    remedy,
    path: ['input', field],
  })
}
