/** What operators may do with groups. Each writes what is wished, for the group and its members at once; the workflows see it within a moment. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { and, eq, inArray, isNotNull } from 'drizzle-orm'
import type { Change, Database, Transaction } from '../database/client.ts'
import { migrationGroupMembers, migrationGroups } from '../database/tables/migration-group.ts'
import { migrations } from '../database/tables/migration.ts'
import { virtualMachines } from '../database/tables/topology.ts'
import { requireFuture } from '../domain/cutover-time.ts'
import { PortolanError } from '../domain/errors.ts'
import { checkedName, inOrder, requireMemberCount } from '../domain/migration-group-members.ts'
import { isGroupEnded } from '../domain/migration-group.ts'
import { translated } from './failure.ts'
import { isSteerable, type GroupRow } from './group-facts.ts'
import type { Idempotency } from './idempotency.ts'
import type { MigrationCheck } from './migration-check.ts'
import type { MigrationPatch, MigrationRow } from './migration-store.ts'
import type { Actor, NewGroup, NewMember, Operations } from './operations.ts'

export type GroupOperations = Pick<
  Operations,
  | 'createMigrationGroup'
  | 'startMigrationGroup'
  | 'cutOverMigrationGroup'
  | 'pauseMigrationGroup'
  | 'resumeMigrationGroup'
  | 'cancelMigrationGroup'
>

// A type, not an interface: it has to be a record of strings.
type GroupAnswer = { migrationGroupId: string }
interface Steering {
  idempotencyKey: string
  migrationGroupId: string
  at?: Date
}

export function createGroupOperations(dependencies: {
  database: Pick<Database, 'select'>
  check: Pick<MigrationCheck, 'resolve'>
  idempotency: Idempotency
  engineId: string
  /** Hands a stored group to the engine. Must not throw: what can't be submitted now is submitted later. */
  submit: (groupId: string) => Promise<void>
  /** How long a cancel waits for the data paths to stop, in milliseconds. */
  cancelMs?: number
}): GroupOperations {
  const { database, check, idempotency, engineId, submit, cancelMs = 60_000 } = dependencies
  const steerToCancel = steer(
    'cancelMigrationGroup',
    (group) => ({ desired: 'CANCEL', ...(group.state === 'CREATED' && { state: 'CANCELLED', endedAt: new Date() }) }),
    ({ desired }) => (desired === 'CANCEL' ? null : { desired: 'CANCEL' }),
  )

  async function planned(members: NewMember[]) {
    requireMemberCount(members.length)
    const checked = []
    for (const [index, { name, dependsOn, request }] of members.entries()) {
      const path = ['input', 'members', `${index}`]
      await check.resolve(request).catch((error: unknown) => {
        throw error instanceof PortolanError ? ofMember(error, path) : error
      })
      const id = request.sourceVirtualMachineId
      const [vm] = await database.select().from(virtualMachines).where(eq(virtualMachines.id, id))
      checked.push({
        name: checkedName(name, [...path, 'name']),
        dependsOn: [...new Set(dependsOn.map((other) => other.normalize('NFC')))],
        machine: vm?.uniqueId ?? id,
        request,
      })
    }
    return inOrder(checked)
  }

  /** Writes what is wished for the group, and for each member that can still be steered. */
  function steer(
    mutation: keyof GroupOperations,
    patchOf: (group: GroupRow, input: Steering) => Partial<GroupRow>,
    wish: (migration: MigrationRow) => MigrationPatch | null,
  ) {
    return async (actor: Actor, input: Steering): Promise<GroupAnswer> =>
      translated(() =>
        idempotency.once<GroupAnswer>(actor, mutation, input, (commit) => {
          const changed: Change[] = [{ topic: 'MIGRATION_GROUP', subject: input.migrationGroupId }]
          return commit(async (tx) => {
            const group = await groupIn(tx, input.migrationGroupId)
            requireSteerable(mutation, group)
            await tx
              .update(migrationGroups)
              .set({ ...patchOf(group, input), updatedAt: new Date() })
              .where(eq(migrationGroups.id, group.id))
            for (const migration of await steerable(tx, group.id)) {
              const wished = wish(migration)
              if (!wished) continue
              await tx
                .update(migrations)
                .set({ ...wished, updatedAt: new Date() })
                .where(eq(migrations.id, migration.id))
              changed.push({ topic: 'MIGRATION', subject: migration.id })
            }
            return { migrationGroupId: group.id }
          }, changed)
        }),
      )
  }

  return {
    createMigrationGroup: (actor, input) =>
      translated(() =>
        idempotency.once<GroupAnswer>(actor, 'createMigrationGroup', input, async (commit) => {
          if (input.cutoverAt) requireFuture(input.cutoverAt, ['input', 'cutoverAt'])
          const name = checkedName(input.name, ['input', 'name'])
          const members = await planned(input.members)
          const id = randomUUID()
          return commit(
            async (tx) => {
              await insertGroup(tx, { id, name, group: input, members })
              return { migrationGroupId: id }
            },
            [{ topic: 'MIGRATION_GROUP', subject: id }],
          )
        }),
      ),

    startMigrationGroup: (actor, input) =>
      translated(async () => {
        const answer = await idempotency.once<GroupAnswer>(actor, 'startMigrationGroup', input, (commit) =>
          commit(
            async (tx) => {
              const group = await groupIn(tx, input.migrationGroupId)
              if (group.state !== 'CREATED')
                throw refusal('startMigrationGroup', group, `it is ${group.state} already`, 'Watch it, or create another.')
              const now = new Date()
              await tx
                .update(migrationGroups)
                .set({ state: 'RUNNING', engineId, startedAt: now, updatedAt: now })
                .where(eq(migrationGroups.id, group.id))
              return { migrationGroupId: group.id }
            },
            [{ topic: 'MIGRATION_GROUP', subject: input.migrationGroupId }],
          ),
        )
        await submit(answer.migrationGroupId)
        return answer
      }),

    // What was said to single members before gives way to what is said to all.
    cutOverMigrationGroup: steer(
      'cutOverMigrationGroup',
      (_group, { at }) => ({ cutoverAt: at ?? new Date() }),
      ({ cutoverRequestedAt }) => (cutoverRequestedAt ? { cutoverRequestedAt: null } : null),
    ),
    pauseMigrationGroup: steer(
      'pauseMigrationGroup',
      () => ({ desired: 'PAUSE' }),
      ({ desired }) => (desired === 'RUN' ? { desired: 'PAUSE' } : null),
    ),
    resumeMigrationGroup: steer(
      'resumeMigrationGroup',
      () => ({ desired: 'RUN' }),
      ({ desired }) => (desired === 'PAUSE' ? { desired: 'RUN' } : null),
    ),
    /** Answers once all that it reaches has stopped, as the cancel of one migration does. */
    async cancelMigrationGroup(actor, input) {
      const answer = await steerToCancel(actor, input)
      for (const until = performance.now() + cancelMs; ;) {
        const going = await steerable(database, answer.migrationGroupId)
        if (going.length === 0) return answer
        if (performance.now() > until) throw notStopped(answer.migrationGroupId, going)
        await delay(cancelPollMs)
      }
    },
  }
}

const cancelPollMs = 250

function notStopped(groupId: string, going: MigrationRow[]): PortolanError {
  const { id, phase, problem } = going[0]!
  return new PortolanError(
    'TIMED_OUT',
    `The cancel of group ${groupId} is under way, but ${going.length} of its migrations have not stopped yet, ${id} (${phase}) first. ${problem ?? ''}`.trim(),
    { retryable: true, remedy: 'Send the same request again to wait on, and see the `problem` of each for what it waits for.' },
  )
}

async function insertGroup(
  tx: Transaction,
  { id, name, group, members }: { id: string; name: string; group: NewGroup; members: (NewMember & { dependsOn: string[] })[] },
): Promise<void> {
  const now = new Date()
  const { cutoverPolicy, cutoverAt = null } = group
  await tx
    .insert(migrationGroups)
    .values({ id, name, state: 'CREATED', desired: 'RUN', cutoverPolicy, cutoverAt, createdAt: now, updatedAt: now })
  for (let first = 0; first < members.length; first += 100)
    await tx.insert(migrationGroupMembers).values(
      members.slice(first, first + 100).map((member, index) => ({
        id: randomUUID(),
        groupId: id,
        position: first + index,
        name: member.name,
        dependsOn: member.dependsOn,
        request: { ...member.request, cutoverPolicy },
      })),
    )
}

/** Those that have neither ended nor committed. */
async function steerable(tx: Pick<Transaction, 'select'>, groupId: string): Promise<MigrationRow[]> {
  const ids = tx
    .select({ id: migrationGroupMembers.migrationId })
    .from(migrationGroupMembers)
    .where(and(eq(migrationGroupMembers.groupId, groupId), isNotNull(migrationGroupMembers.migrationId)))
  return (await tx.select().from(migrations).where(inArray(migrations.id, ids))).filter(isSteerable)
}

async function groupIn(tx: Transaction, groupId: string): Promise<GroupRow> {
  const [group] = await tx.select().from(migrationGroups).where(eq(migrationGroups.id, groupId))
  if (group) return group
  throw new PortolanError('NOT_FOUND', `There is no migration group ${JSON.stringify(groupId)}; nothing was changed.`, {
    retryable: false,
    remedy: 'See `migrationGroups` for the ids.',
    path: ['input', 'migrationGroupId'],
  })
}

function requireSteerable(mutation: keyof GroupOperations, group: GroupRow): void {
  if (isGroupEnded(group.state))
    throw refusal(mutation, group, `it has ended (${group.state})`, 'Start another, or retry single migrations.')
  if (group.state === 'CREATED' && (mutation === 'pauseMigrationGroup' || mutation === 'resumeMigrationGroup'))
    throw refusal(mutation, group, 'it was not started', 'Start it first.')
  if (group.desired === 'CANCEL' && mutation !== 'cancelMigrationGroup')
    throw refusal(mutation, group, 'it is being cancelled', 'Wait for it to end.')
}

function refusal(mutation: string, { id }: GroupRow, because: string, remedy: string): PortolanError {
  return new PortolanError('NOT_ALLOWED_NOW', `${mutation} of ${id} was refused, since ${because}; nothing was changed.`, {
    retryable: false,
    remedy,
    path: ['input', 'migrationGroupId'],
  })
}

/** An error about a request, told as one about the member that it belongs to. */
function ofMember({ code, message, retryable, remedy, path }: PortolanError, member: readonly string[]): PortolanError {
  return new PortolanError(code, `Member ${member.at(-1)}: ${message}`, { retryable, remedy, path: [...member, ...path.slice(1)] })
}
