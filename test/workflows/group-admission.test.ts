/** The queue for slots, asked by two control planes on one database: each knows only what is in it. */
import { eq, inArray } from 'drizzle-orm'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { admissions, controlPlanes } from '../../src/database/tables/admission.ts'
import { migrations } from '../../src/database/tables/migration.ts'
import { disks } from '../../src/database/tables/topology.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import { createAdmission, type Admission } from '../../src/workflows/admission.ts'
import { createLimitOperations } from '../../src/workflows/admission-limits.ts'
import { createIdempotency } from '../../src/workflows/idempotency.ts'
import type { LimitEntry } from '../../src/workflows/operations.ts'
import { member, storeMachines, temporaryDatabase } from './support/group-stage.ts'
import { operator } from './support/migration-settings-for-tests.ts'

let stage: Awaited<ReturnType<typeof temporaryDatabase>>
let one: Admission
let other: Admission
let keys = 0

beforeEach(async () => {
  stage = await temporaryDatabase()
  await storeMachines(stage.database, 12)
  one = createAdmission(stage.database, { engineId: Promise.resolve('one'), pollMs: 0 })
  other = createAdmission(stage.database, { engineId: Promise.resolve('other'), pollMs: 0 })
})
afterEach(async () => {
  await Promise.all([one.close(), other.close()])
  await stage.remove()
})

/** Of machine `index`, by that control plane. */
async function migration(index: number, engineId: 'one' | 'other'): Promise<{ id: string; attempt: number }> {
  const { request } = member(index)
  const now = new Date()
  const row: typeof migrations.$inferInsert = {
    id: `migration-${index}`,
    attempt: 1,
    phaseListVersion: 2,
    engineId,
    state: 'RUNNING',
    phase: 'ADMISSION',
    desired: 'RUN',
    cutoverPolicy: 'AUTOMATIC',
    sourceCloudId: 'east',
    destinationCloudId: 'west',
    sourceVirtualMachineId: request.sourceVirtualMachineId,
    request,
    permittedDowntimeMs: 1,
    findings: [],
    createdAt: now,
    updatedAt: now,
  }
  await stage.database.write((orm) => [orm.insert(migrations).values(row)])
  return { id: row.id, attempt: 1 }
}

const set = (...limits: LimitEntry[]) =>
  createLimitOperations(createIdempotency(stage.database, sealKeyOf(Buffer.alloc(32, 7)))).setConcurrencyLimits(operator, {
    idempotencyKey: `key-${keys++}`,
    limits,
  })
const moved = (id: string, values: Partial<typeof migrations.$inferInsert>) =>
  stage.database.write((orm) => [orm.update(migrations).set(values).where(eq(migrations.id, id))])
const all = async () => {
  const rows = await stage.database.select().from(admissions).orderBy(admissions.sequence)
  return rows.map(({ migrationId, state }) => `${migrationId.split('-')[1]} ${state}`)
}

test('both together let as many through as the limit allows, and say what the others wait for', async () => {
  await set({ scope: 'CLOUD', subject: 'east', limit: 3 })
  const rows = []
  for (let index = 0; index < 12; index++) rows.push(await migration(index, index % 2 ? 'one' : 'other'))
  const answers = await Promise.all(rows.map((row, index) => (index % 2 ? one : other).admit(row)))
  for (let again = 0; again < 3; again++) await Promise.all(rows.map((row, index) => (index % 2 ? one : other).admit(row)))
  expect((await all()).filter((line) => line.endsWith('ADMITTED'))).toHaveLength(3)
  expect(answers.filter((answer) => answer === null).length).toBeLessThanOrEqual(3)
  const last = (await all()).at(-1)!.split(' ')[0]!
  expect(await one.admit({ id: `migration-${last}`, attempt: 1 })).toMatch(
    /^It is number 9 in the queue: it waits for a slot of cloud east \(3 at once\)/,
  )
})

test('a slot is free once its migration cuts over, fails or is undone, and the next one in order gets it', async () => {
  await set({ scope: 'CLOUD', subject: null, limit: 1 })
  const [first, next, last] = [await migration(0, 'one'), await migration(1, 'other'), await migration(2, 'one')]
  expect(await one.admit(first)).toBeNull()
  expect(await other.admit(next)).toMatch(/number 1 in the queue/)
  expect(await one.admit(last)).toMatch(/number 2 in the queue/)
  await moved(first.id, { phase: 'SYNC', state: 'PAUSED' })
  expect(await other.admit(next)).toMatch(/number 1/)
  await moved(first.id, { phase: 'READY_TO_CUT_OVER', state: 'RUNNING' })
  expect(await one.admit(last)).toMatch(/number 1/)
  expect(await other.admit(next)).toBeNull()
  await moved(next.id, { state: 'FAILED' })
  expect(await one.admit(last)).toBeNull()
})

test('a control plane that was killed finds its place and its slots again', async () => {
  await set({ scope: 'CLOUD', subject: null, limit: 1 })
  const [first, next, last] = [await migration(0, 'one'), await migration(1, 'one'), await migration(2, 'other')]
  expect(await one.admit(first)).toBeNull()
  await one.admit(next)
  await other.admit(last)
  await one.close()
  one = createAdmission(stage.database, { engineId: Promise.resolve('one'), pollMs: 0 })
  expect(await one.admit(first)).toBeNull()
  expect(await other.admit(last)).toMatch(/number 2/)
  await moved(first.id, { state: 'COMPLETED' })
  expect(await one.admit(next)).toBeNull()
})

test('one that does not come back holds nobody up', async () => {
  await set({ scope: 'CLOUD', subject: null, limit: 1 })
  const [first, next, last] = [await migration(0, 'one'), await migration(1, 'one'), await migration(2, 'other')]
  expect(await one.admit(first)).toBeNull()
  await one.admit(next)
  expect(await other.admit(last)).toMatch(/number 2/)
  await one.close()
  await stage.database.write((orm) => [
    orm
      .update(controlPlanes)
      .set({ seenAt: new Date(0) })
      .where(eq(controlPlanes.engineId, 'one')),
  ])
  expect(await other.admit(last)).toBeNull()
})

test('neither do those that are paused in the queue; another attempt queues anew', async () => {
  await set({ scope: 'CLOUD', subject: null, limit: 1 })
  const [first, next, last] = [await migration(0, 'one'), await migration(1, 'one'), await migration(2, 'other')]
  expect(await one.admit(first)).toBeNull()
  await one.admit(next)
  await other.admit(last)
  await moved(next.id, { desired: 'PAUSE' })
  await moved(first.id, { state: 'FAILED' })
  expect(await other.admit(last)).toBeNull()
  await moved(next.id, { desired: 'RUN' })
  await moved(first.id, { state: 'RUNNING', attempt: 2 })
  expect(await one.admit({ ...first, attempt: 2 })).toMatch(/number 2/)
})

test('limits of hosts count for their machines only; without one of their own the general ones hold again', async () => {
  await set({ scope: 'HOST', subject: 'east/h0', limit: 0 })
  const [onHost, elsewhere] = [await migration(0, 'one'), await migration(1, 'one')]
  expect(await one.admit(onHost)).toContain('host h0 (0 at once)')
  expect(await one.admit(elsewhere)).toBeNull()
  await set({ scope: 'HOST', subject: 'east/h0', limit: null })
  expect(await one.admit(onHost)).toBeNull()
})

test('machines with disks on one storage compete for it, and others do not', async () => {
  await set({ scope: 'DISK', subject: null, limit: 1 })
  await stage.database.write((orm) => [
    orm
      .update(disks)
      .set({ storageId: 'pool' })
      .where(inArray(disks.virtualMachineId, ['east/vm-0', 'east/vm-1', 'east/vm-3'])),
  ])
  const [zero, sameHost, sameName, alone] = [
    await migration(0, 'one'),
    await migration(3, 'one'),
    await migration(1, 'one'),
    await migration(6, 'one'),
  ]
  expect(await one.admit(zero)).toBeNull()
  expect(await one.admit(sameHost)).toMatch(/disk east\/h0\/storage\/pool \(1 at once\)/)
  expect(await one.admit(sameName)).toBeNull()
  expect(await one.admit(alone)).toBeNull()
})

test.each([
  ['INVALID_INPUT', { scope: 'CLOUD' as const, subject: null, limit: -1 }],
  ['INVALID_INPUT', { scope: 'CLOUD' as const, subject: null, limit: 1.5 }],
  ['INVALID_INPUT', { scope: 'CLOUD' as const, subject: null, limit: 1001 }],
  ['NOT_FOUND', { scope: 'CLOUD' as const, subject: 'nowhere', limit: 1 }],
  ['NOT_FOUND', { scope: 'HOST' as const, subject: 'east', limit: 1 }],
])('%s for the limit %j', async (code, limit) => {
  await expect(set({ scope: 'DISK', subject: null, limit: 2 }, limit)).rejects.toMatchObject({ code, path: expect.arrayContaining(['1']) })
})
