/** A retry that does otherwise what remedies name, from the copy that the attempt before kept. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { MigrationChanges } from '../../src/domain/migration-request.ts'
import { migrationRequest } from './support/migration-settings-for-tests.ts'
import { expectMoved, operator, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

let stage: MigrationStage
let pendingMs: number
let keys = 0

beforeEach(async () => {
  pendingMs = 1
  stage = await setMigrationStage({ pendingMs: () => pendingMs })
})
afterEach(() => stage.close())

const retry = (migrationId: string, changes?: MigrationChanges, idempotencyKey = `retry ${keys++}`) =>
  stage.operations.retryMigration(operator, { idempotencyKey, migrationId, ...(changes && { changes }) })
const instantiated = () => stage.world.look().calls.filter((call) => call === 'west.instantiate').length
const { healthCheck } = migrationRequest()
const dhcp = (mac: string) => [{ mac, mode: 'DHCP' as const }]

async function failedHealthCheck(): Promise<string> {
  stage.health.status = 500
  const id = await stage.start()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({
    state: 'FAILED',
    copyKept: true,
    errorRemedy: expect.stringContaining('`changes.healthCheck`') as string,
  })
  return id
}

test('a longer permitted downtime is what the rounds are judged by then, and the copy is taken up', async () => {
  pendingMs = 1_000_000
  const id = await stage.start({ permittedDowntimeMs: 1_000, nonConvergencePolicy: 'ABORT' })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({
    state: 'FAILED',
    errorCode: 'NOT_CONVERGING',
    errorRemedy: expect.stringContaining('`permittedDowntimeMs`') as string,
  })
  await retry(id, { permittedDowntimeMs: 2_000_000 })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({
    state: 'COMPLETED',
    attempt: 2,
    permittedDowntimeMs: 2_000_000,
    request: migrationRequest({ permittedDowntimeMs: 2_000_000, nonConvergencePolicy: 'ABORT' }),
  })
  expect(instantiated()).toBe(1)
  await expectMoved(stage)
})

test('the policy FORCE cuts over where the downtime that is permitted stays too short', async () => {
  pendingMs = 1_000_000
  const id = await stage.start({ permittedDowntimeMs: 1_000, nonConvergencePolicy: 'ABORT' })
  await stage.drive(stage.runner(), id)
  await retry(id, { nonConvergencePolicy: 'FORCE' })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', permittedDowntimeMs: 1_000 })
})

test('a hook that failed the migration is gone, and what is not named stays as it was', async () => {
  const action = { kind: 'WEBHOOK' as const, url: 'http://127.0.0.1:1/', secretName: 'none' }
  const hook = { name: 'x', phase: 'SEAL_COPY', when: 'AFTER', timeoutMs: 500, retries: 0, onFailure: 'FAIL', action } as const
  const addressing = dhcp('52:54:00:00:00:01')
  const id = await stage.start({ hooks: [hook], addressing })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', errorCode: 'HOOK_FAILED', copyKept: true })
  await retry(id, { hooks: [] })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', request: migrationRequest({ hooks: [], addressing }) })
  expect(instantiated()).toBe(1)
})

test('addresses are corrected, and pre-flight looks at those', async () => {
  const id = await stage.start({ addressing: dhcp('52:54:00:00:00:02') })
  const code = 'ADDRESSING_WITHOUT_INTERFACE'
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', findings: [expect.objectContaining({ code })] })
  await retry(id, { addressing: dhcp('52:54:00:00:00:01') })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', findings: [] })
})

test('another health check is asked by, at the port that the kept copy is reached at', async () => {
  const id = await failedHealthCheck()
  const before = await stage.store.read(id)
  const elsewhere = retry(id, { healthCheck: { ...healthCheck, port: 9090 }, permittedDowntimeMs: 1 })
  await expect(elsewhere).rejects.toMatchObject({ code: 'INVALID_INPUT', path: ['input', 'changes', 'healthCheck'] })
  expect(await stage.store.read(id)).toEqual(before)
  expect(await stage.isLocked()).toBe(false)
  // The server still answers with 500, which a look at the port alone doesn't see.
  await retry(id, { healthCheck: { kind: 'TCP', port: healthCheck.port, timeoutMs: 5_000 } })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', attempt: 2 })
})

test('once the copy is discarded, the check may ask at another port', async () => {
  const id = await failedHealthCheck()
  await stage.operations.discardMigration(operator, { idempotencyKey: 'discard', migrationId: id })
  await stage.drive(stage.runner(), id)
  await retry(id, { healthCheck: { kind: 'TCP', port: 9090, timeoutMs: 5_000 } })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
})

test('the same key begins one attempt, and is refused with other changes', async () => {
  const id = await failedHealthCheck()
  await retry(id, { permittedDowntimeMs: 90_000 }, 'once')
  await retry(id, { permittedDowntimeMs: 90_000 }, 'once')
  for (const changes of [{ permittedDowntimeMs: 80_000 }, undefined])
    await expect(retry(id, changes, 'once')).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED' })
  expect(await stage.store.read(id)).toMatchObject({ state: 'PENDING', attempt: 2, permittedDowntimeMs: 90_000 })
})

test('what runs, or was completed, is not changed', async () => {
  const id = await stage.start()
  const changes = { permittedDowntimeMs: 1 }
  await expect(retry(id, changes)).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
  await expect(retry(id, changes)).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
  expect(await stage.store.read(id)).toMatchObject({ request: migrationRequest(), permittedDowntimeMs: 60_000 })
})
