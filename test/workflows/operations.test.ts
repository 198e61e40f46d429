import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { migrationRequest, operator } from './support/migration-settings-for-tests.ts'
import { setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

let stage: MigrationStage

beforeEach(async () => {
  stage = await setMigrationStage()
})
afterEach(() => stage.close())

const start = (idempotencyKey: string, change = {}) =>
  stage.operations.startMigration(operator, { ...migrationRequest(change), idempotencyKey })

describe('starting a migration', () => {
  test('twice with one key answers as the first time', async () => {
    expect(await start('key')).toEqual(await start('key'))
  })

  test('twice at once with one key makes one migration', async () => {
    const [one, other] = await Promise.all([start('key'), start('key')])
    expect(one).toEqual(other)
  })

  test('with a used key and other input is refused', async () => {
    await start('key')
    await expect(start('key', { permittedDowntimeMs: 1 })).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED' })
  })

  test('with a key that another token used is a request of its own', async () => {
    await start('key')
    const other = stage.operations.startMigration({ ...operator, tokenId: 'another' }, { ...migrationRequest(), idempotencyKey: 'key' })
    await expect(other).rejects.toMatchObject({ code: 'ALREADY_MIGRATING' })
  })

  test('of a machine that is being moved is refused', async () => {
    await start('one')
    await expect(start('two')).rejects.toMatchObject({ code: 'ALREADY_MIGRATING', path: ['input', 'sourceVirtualMachineId'] })
  })

  test.each([
    ['NOT_FOUND', { sourceVirtualMachineId: 'east/unknown' }],
    ['NOT_FOUND', { sourceVirtualMachineId: "'; drop table migrations; --" }],
    ['NOT_FOUND', { destinationCloudId: 'nowhere' }],
    ['INVALID_INPUT', { destinationCloudId: 'east' }],
    ['INVALID_INPUT', { networkMap: [{ sourceNetworkId: 'west/net', destinationNetworkId: 'west/net' }] }],
    ['INVALID_INPUT', { permittedDowntimeMs: 0 }],
    ['INVALID_INPUT', { healthCheck: { kind: 'TCP', port: 70_000, timeoutMs: 1 } }],
    ['INVALID_INPUT', { healthCheck: { kind: 'HTTP', port: 80, path: 'http://elsewhere', timeoutMs: 1 } }],
  ])('is refused with %s for %o', async (code, change) => {
    await expect(start('key', change)).rejects.toMatchObject({ code })
    expect(await stage.isLocked()).toBe(false)
  })
})

test('validating changes nothing and finds what pre-flight finds', async () => {
  expect(await stage.operations.validateMigration(operator, migrationRequest())).toEqual([])
  stage.world.change('stop', (state) => void (state.source.power = 'STOPPED'))
  expect(await stage.operations.validateMigration(operator, migrationRequest())).toMatchObject([{ code: 'SOURCE_NOT_RUNNING' }])
  expect(await stage.isLocked()).toBe(false)
})

test('an unknown migration is not found', async () => {
  await expect(stage.operations.cancelMigration(operator, { idempotencyKey: 'key', migrationId: 'none' })).rejects.toMatchObject({
    code: 'NOT_FOUND',
  })
})
