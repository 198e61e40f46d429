/** A discard looks before it deletes: what bears the copy's id by now may be the live machine. */
import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { migrations } from '../../src/database/tables/migration.ts'
import { ProviderError, type ProviderErrorCode } from '../../src/plugin-sdk/index.ts'
import type { CallHook } from './support/fake-clouds.ts'
import { sourceUniqueId, type DestinationMachine } from './support/fake-world.ts'
import { expectMoved, operator, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

let stage: MigrationStage
let hook: CallHook
let keys = 0
let id: string
const copy = `west/${sourceUniqueId}`

beforeEach(async () => {
  hook = () => {}
  stage = await setMigrationStage({ hook: (call, when) => hook(call, when) })
  stage.health.status = 500
  id = await stage.start()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', copyKept: true, destinationVirtualMachineId: copy })
  stage.health.status = 200
})
afterEach(() => stage.close())

const request = () => ({ idempotencyKey: `discard-${keys++}`, migrationId: id })
const discard = () => stage.operations.discardMigration(operator, request())
const changeCopy = (change: Partial<DestinationMachine>) =>
  stage.world.change('somebody changes the copy', ({ machines }) => void Object.assign(machines[sourceUniqueId]!, change))
const deletions = () => stage.world.look().calls.filter((call) => call === 'west.delete').length
const failing = (code: ProviderErrorCode) => (call: string) => {
  if (call === 'west.describe') throw new ProviderError(code, 'No such luck.', { retryable: code === 'UNREACHABLE', remedy: 'None.' })
}

async function moveOnceTheCopyIsDeleted(): Promise<string> {
  stage.world.change('its owner deletes the copy', (state) => void (state.machines = {}))
  const later = await stage.start()
  expect(await stage.drive(stage.runner(), later)).toMatchObject({ state: 'COMPLETED', destinationVirtualMachineId: copy })
  return later
}

async function expectRefused(error: object): Promise<void> {
  const before = await stage.store.read(id)
  await expect(discard()).rejects.toMatchObject({ path: ['input', 'migrationId'], ...error })
  expect(await stage.store.read(id)).toEqual(before)
  expect(await stage.isLocked()).toBe(false)
  expect(deletions()).toBe(0)
}

test('a copy that its owner deleted is kept no more once a later migration makes its machine under the same id', async () => {
  const later = await moveOnceTheCopyIsDeleted()
  expect(await stage.store.read(id)).toMatchObject({ state: 'FAILED', copyKept: false, destinationVirtualMachineId: null })
  await expectRefused({ code: 'NOT_ALLOWED_NOW' })
  expect(await stage.store.read(later)).toMatchObject({ destinationVirtualMachineId: copy })
  await expectMoved(stage)
})

test('a machine that a later attempt of the same migration moved, which a database that was put back does not know, is not discarded', async () => {
  const before = await stage.store.read(id)
  await stage.operations.retryMigration(operator, request())
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', attempt: 2 })
  changeCopy({ power: 'STOPPED' })
  await stage.database.write((orm) => [orm.update(migrations).set(before).where(eq(migrations.id, id))])
  await expectRefused({ code: 'CONFLICT', retryable: false, message: expect.stringContaining('its attempt 2') as string })
})

test('a machine that was rolled back is discarded though its site, which was given up, has no record of that', async () => {
  await stage.operations.retryMigration(operator, request())
  await stage.drive(stage.runner(), id)
  await stage.operations.rollbackMigration(operator, request())
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK', copyKept: true })
  stage.world.change('the record was never written', ({ records }) => {
    for (const key of Object.keys(records)) if (key.endsWith('.rolled-back')) delete records[key]
  })
  await discard()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK', copyKept: false })
})

describe('where the database still calls the live machine a copy', () => {
  let later: string
  beforeEach(async () => {
    later = await moveOnceTheCopyIsDeleted()
    const patch = { copyKept: true, destinationVirtualMachineId: copy }
    await stage.database.write((orm) => [orm.update(migrations).set(patch).where(eq(migrations.id, id))])
  })

  test.each(['RUNNING', 'STOPPED'] as const)('a discard is refused by the records of its site, while it is %s', async (power) => {
    changeCopy({ power })
    await expectRefused({ code: 'CONFLICT', retryable: false, message: expect.stringContaining(`migration ${later}`) as string })
  })

  test('a copy of the same id that a still later attempt keeps is discarded', async () => {
    await stage.operations.rollbackMigration(operator, { ...request(), migrationId: later })
    await stage.drive(stage.runner(), later)
    await stage.operations.discardMigration(operator, { ...request(), migrationId: later })
    await stage.drive(stage.runner(), later)
    expect(stage.world.look().machines).toEqual({})
    stage.health.status = 500
    await stage.operations.retryMigration(operator, request())
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', copyKept: true })
    await discard()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', copyKept: false })
    expect(stage.world.look().machines).toEqual({})
  })
})

test.each(['RUNNING', 'SUSPENDED'] as const)(
  'a copy that is %s, since somebody started it, is not discarded until it is off again',
  async (power) => {
    changeCopy({ power })
    await expectRefused({ code: 'CONFLICT', retryable: false, message: expect.stringContaining(power) as string })
    changeCopy({ power: 'STOPPED' })
    await discard()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', copyKept: false })
    expect(stage.world.look().machines).toEqual({})
  },
)

test('a copy of which nobody can say whether it runs is not discarded', async () => {
  changeCopy({ power: 'UNKNOWN' })
  await expectRefused({ code: 'CONFLICT', retryable: true })
  hook = failing('UNREACHABLE')
  await expectRefused({ code: 'CLOUD_UNREACHABLE', retryable: true })
})

test('a copy that is gone is discarded, with what may be left of it', async () => {
  stage.world.change('its owner deletes the copy', (state) => void (state.machines = {}))
  await discard()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', copyKept: false })
  expect(deletions()).toBe(1)
})

test('a copy that somebody starts after the request is left alone, and may be discarded later', async () => {
  const { errorMessage } = await stage.store.read(id)
  await discard()
  changeCopy({ power: 'RUNNING' })
  const refused = await stage.drive(stage.runner(), id)
  expect(refused).toMatchObject({ state: 'FAILED', copyKept: true, destinationVirtualMachineId: copy, errorCode: 'CONFLICT' })
  expect(refused.errorMessage).not.toBe(errorMessage)
  expect(await stage.isLocked()).toBe(false)
  expect(deletions()).toBe(0)
  changeCopy({ power: 'STOPPED' })
  await discard()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', copyKept: false })
})

test('a cloud that falls silent after the request is waited for, and looked at again', async () => {
  await discard()
  let silent = 2
  hook = (call) => {
    if (call === 'west.describe' && silent-- > 0) failing('UNREACHABLE')(call)
  }
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', copyKept: false })
  expect(silent).toBeLessThan(0)
  expect(deletions()).toBe(1)
})

test('a copy that runs is not taken up by a retry either, which would boot over what it serves', async () => {
  changeCopy({ power: 'RUNNING' })
  await stage.operations.retryMigration(operator, request())
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', copyKept: true, errorCode: 'CONFLICT' })
  expect(stage.world.look().machines[sourceUniqueId]).toMatchObject({ power: 'RUNNING' })
})
