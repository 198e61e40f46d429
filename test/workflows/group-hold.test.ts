/** At READY_TO_CUT_OVER, with the real phases on a fake world: what it waits for is said, the copy is kept fresh, and convergence is judged on. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { migrationGroupMembers, migrationGroups } from '../../src/database/tables/migration-group.ts'
import { migrations } from '../../src/database/tables/migration.ts'
import type { MigrationRequest } from '../../src/domain/migration-request.ts'
import type { MigrationRow } from '../../src/workflows/migration-store.ts'
import { eq } from 'drizzle-orm'
import { expectMoved, operator, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

let stage: MigrationStage
/** What the source's agent estimates for the rest, in milliseconds. */
let pendingMs: number
/** The only one that leaves too much. */
let busyRound: number | null
let keys = 0
const tooMuchMs = 10_000_000

beforeEach(async () => {
  pendingMs = 1
  busyRound = null
  stage = await setMigrationStage({ pendingMs: (round) => (round === busyRound ? tooMuchMs : pendingMs) })
})
afterEach(() => stage.close())

const key = () => ({ idempotencyKey: `hold-${keys++}` })

/** Under way to its end, and READY_TO_CUT_OVER by now. */
async function held(change: Partial<MigrationRequest>, at?: Date): Promise<{ id: string; ended: Promise<MigrationRow> }> {
  const id = await stage.start(change)
  if (at) await stage.operations.cutOverMigration(operator, { migrationId: id, at, ...key() })
  const ended = stage.drive(stage.runner(), id)
  await vi.waitFor(async () => expect((await stage.store.read(id)).phase).toBe('READY_TO_CUT_OVER'), { timeout: 20_000 })
  return { id, ended }
}

const says = (id: string, problem: RegExp) =>
  vi.waitFor(async () => expect((await stage.store.read(id)).problem).toMatch(problem), { timeout: 20_000 })
const lastRound = async (id: string) => (await stage.store.lastRound(await stage.store.read(id)))?.round ?? 0
const roundsGoOn = async (id: string) => {
  const before = await lastRound(id)
  await vi.waitFor(async () => expect(await lastRound(id)).toBeGreaterThan(before + 1), { timeout: 20_000 })
}

describe('a migration that could cut over', () => {
  test('says that it waits for its operator, and syncs on', async () => {
    const { id, ended } = await held({ cutoverPolicy: 'MANUAL' })
    await says(id, /waits for its operator/)
    await roundsGoOn(id)
    await stage.operations.cutOverMigration(operator, { migrationId: id, ...key() })
    expect(await ended).toMatchObject({ state: 'COMPLETED', problem: null })
    await expectMoved(stage)
  })

  test('says when it cuts over, syncs on, and takes another time', async () => {
    const { id, ended } = await held({ cutoverPolicy: 'AUTOMATIC' }, new Date(Date.now() + 3_600_000))
    await says(id, /cuts over at 20/)
    await roundsGoOn(id)
    await stage.operations.cutOverMigration(operator, { migrationId: id, at: new Date(Date.now() + 100), ...key() })
    expect(await ended).toMatchObject({ state: 'COMPLETED' })
    await expectMoved(stage)
  })

  test('goes on waiting through one busy round under the policy ABORT', async () => {
    const { id, ended } = await held({ cutoverPolicy: 'MANUAL', nonConvergencePolicy: 'ABORT' })
    await roundsGoOn(id)
    busyRound = (await lastRound(id)) + 4
    await vi.waitFor(async () => expect(await lastRound(id)).toBeGreaterThan(busyRound! + 3), { timeout: 20_000 })
    await stage.operations.cutOverMigration(operator, { migrationId: id, ...key() })
    expect(await ended).toMatchObject({ state: 'COMPLETED' })
  })

  test('is ended by the policy ABORT when it stays busy', async () => {
    const { ended } = await held({ cutoverPolicy: 'MANUAL', nonConvergencePolicy: 'ABORT' })
    pendingMs = tooMuchMs
    expect(await ended).toMatchObject({ state: 'FAILED', errorCode: 'NOT_CONVERGING' })
  })

  test('is cut over by the policy FORCE on the word of its operator, and not before', async () => {
    const { id, ended } = await held({ cutoverPolicy: 'MANUAL', nonConvergencePolicy: 'FORCE' })
    pendingMs = tooMuchMs
    await vi.waitFor(async () => expect((await stage.store.read(id)).convergence).toBe('NOT_CONVERGING'), { timeout: 20_000 })
    await roundsGoOn(id)
    expect((await stage.store.read(id)).phase).toBe('READY_TO_CUT_OVER')
    await stage.operations.cutOverMigration(operator, { migrationId: id, ...key() })
    expect(await ended).toMatchObject({ state: 'COMPLETED' })
    await expectMoved(stage)
  })
})

test('a member of a group waits, by whatever policy, for the one that it depends on, and for the time of its group', async () => {
  const id = await stage.start({ cutoverPolicy: 'AUTOMATIC', nonConvergencePolicy: 'FORCE' })
  const at = new Date(Date.now() + 3_600_000)
  await groupOf(id, at)
  const ended = stage.drive(stage.runner(), id)
  await says(id, /depends on are COMPLETED: db \(RUNNING\)/)
  // Not even the word of its operator goes before the order.
  await stage.operations.cutOverMigration(operator, { migrationId: id, ...key() })
  await roundsGoOn(id)
  expect((await stage.store.read(id)).phase).toBe('READY_TO_CUT_OVER')
  await stage.database.write((orm) => [
    orm.update(migrations).set({ cutoverRequestedAt: null }).where(eq(migrations.id, id)),
    orm.update(migrations).set({ state: 'COMPLETED', phase: 'CLEAN_UP' }).where(eq(migrations.id, 'db')),
  ])
  await says(id, new RegExp(`cuts over at ${at.toISOString()}`))
  await stage.database.write((orm) => [orm.update(migrationGroups).set({ cutoverAt: new Date() })])
  expect(await ended).toMatchObject({ state: 'COMPLETED' })
  await expectMoved(stage)
})

/** With a member `db` whose migration has the id `db`, that it depends on. */
async function groupOf(migrationId: string, cutoverAt: Date): Promise<void> {
  const own = await stage.store.read(migrationId)
  const now = new Date()
  const member = { groupId: 'group', request: own.request }
  await stage.database.write((orm) => [
    orm.insert(migrations).values({ ...own, id: 'db', state: 'RUNNING', phase: 'SYNC' }),
    orm.insert(migrationGroups).values({
      id: 'group',
      name: 'wave',
      state: 'RUNNING',
      desired: 'RUN',
      cutoverPolicy: 'AUTOMATIC',
      cutoverAt,
      createdAt: now,
      updatedAt: now,
    }),
    orm.insert(migrationGroupMembers).values([
      { ...member, id: 'one', position: 0, name: 'db', dependsOn: [], migrationId: 'db' },
      { ...member, id: 'two', position: 1, name: 'web', dependsOn: ['db'], migrationId },
    ]),
  ])
}
