import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { CallHook } from './support/fake-clouds.ts'
import { operator, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

let stage: MigrationStage
let hook: CallHook
let pendingMs: (round: number) => number

beforeEach(async () => {
  hook = () => {}
  pendingMs = () => 1_000_000
  stage = await setMigrationStage({ hook: (call, when) => hook(call, when), pendingMs: (round) => pendingMs(round) })
})
afterEach(() => stage.close())

let keys = 0
const key = (migrationId: string) => ({ idempotencyKey: `key ${keys++}`, migrationId })
const eventually = (condition: () => unknown) => vi.waitFor(condition, 20_000)
const afterRound = (round: number, work: () => unknown): CallHook => {
  let rounds = 0
  return async (call, when) => {
    if (call === 'SOURCE.round.run' && when === 'after' && ++rounds === round) await work()
  }
}

const breaks: [string, (id: string) => unknown][] = [
  [
    'a pause',
    async (id) => {
      await stage.operations.pauseMigration(operator, key(id))
      void eventually(async () => expect((await stage.store.read(id)).state).toBe('PAUSED')).then(() =>
        stage.operations.resumeMigration(operator, key(id)),
      )
    },
  ],
  ['a start of the agent', () => stage.restartDestinationAgent()],
  [
    'a limit of bandwidth',
    (id) => stage.operations.setBandwidthLimit(operator, { ...key(id), bandwidth: { limitBytesPerSecond: 65_536, windows: [] } }),
  ],
]

test.each(breaks)('rounds that are longer after %s, and get shorter, converge', async (_, interrupt) => {
  const estimates = [200_000, 150_000, 120_000, 900_000, 500_000, 300_000, 200_000]
  let judged = 0
  pendingMs = () => estimates[judged++] ?? 1
  const id = await stage.start({ nonConvergencePolicy: 'ABORT' })
  hook = afterRound(3, () => interrupt(id))
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
})

test('the policy waits while a window of the limit holds the copy, and decides once it does not', async () => {
  const hourFromNow = (hours: number) => new Date(Date.now() + hours * 3_600_000).toISOString().slice(11, 16)
  const window = { from: hourFromNow(-1), to: hourFromNow(2), timeZone: 'UTC', limitBytesPerSecond: 65_536 }
  const id = await stage.start({ nonConvergencePolicy: 'ABORT', bandwidth: { windows: [window] } })
  hook = async (call, when) => {
    if (call === 'SOURCE.round.run' && when === 'before')
      await stage.store.write(await stage.store.read(id), { patch: { bottleneck: 'BANDWIDTH_LIMIT' } })
  }
  const end = stage.drive(stage.runner(), id)
  await eventually(async () => {
    const migration = await stage.store.read(id)
    expect(migration).toMatchObject({ state: 'RUNNING', convergence: 'NOT_CONVERGING' })
    expect((await stage.store.lastRound(migration))!.round).toBeGreaterThan(6)
  })
  await stage.operations.setBandwidthLimit(operator, { ...key(id), bandwidth: { limitBytesPerSecond: 65_536, windows: [] } })
  expect(await end).toMatchObject({ state: 'FAILED', errorCode: 'NOT_CONVERGING' })
})
