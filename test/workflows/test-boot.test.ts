import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { eq } from 'drizzle-orm'
import { AgentError } from '../../src/agent-gateway/agent-error.ts'
import { migrationEvents } from '../../src/database/tables/migration.ts'
import type { MigrationRequest } from '../../src/domain/migration-request.ts'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import type { CallHook } from './support/fake-clouds.ts'
import { expectMoved, expectUndone, operator, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

let stage: MigrationStage
let hook: CallHook
let pendingMs: (round: number) => number

beforeEach(async () => {
  hook = () => {}
  pendingMs = () => 1
  stage = await setMigrationStage({ hook: (call, when) => hook(call, when), pendingMs: (round) => pendingMs(round) })
})
afterEach(() => stage.close())

/** As patient as a busy machine asks for. */
const eventually = (condition: () => unknown) => vi.waitFor(condition, 20_000)
let keys = 0
const key = (migrationId: string) => ({ idempotencyKey: `key ${keys++}`, migrationId })
const ask = (id: string) => stage.operations.testMigration(operator, key(id))
const testOf = async (id: string) => (await stage.testsOf(id))[0]
const endsAs = (id: string, outcome: object) => eventually(async () => expect(await testOf(id)).toMatchObject(outcome))
const freezes = () => stage.world.look().calls.filter((call) => call === 'SOURCE.freeze').length
const isFrozen = () => stage.world.look().source.freeze !== null
const testMachines = () => Object.keys(stage.world.look().machines).filter((name) => name.startsWith('test-'))

async function held(change: Partial<MigrationRequest> = {}) {
  const id = await stage.start({ cutoverPolicy: 'MANUAL', ...change })
  const runner = stage.runner()
  const end = stage.drive(runner, id)
  end.catch(() => {})
  await eventually(async () => expect((await stage.store.read(id)).phase).toBe('READY_TO_CUT_OVER'))
  return { id, runner, end }
}
const roundsMore = async (id: string, count: number) => {
  const last = async () => (await stage.store.lastRound(await stage.store.read(id)))!.round
  const from = await last()
  await eventually(async () => expect(await last()).toBeGreaterThanOrEqual(from + count))
}
async function cutsOver(id: string, end: ReturnType<MigrationStage['drive']>): Promise<void> {
  await stage.operations.cutOverMigration(operator, key(id))
  expect(await end).toMatchObject({ state: 'COMPLETED' })
  await expectMoved(stage)
}

describe('the freeze for a test boot', () => {
  const whileFrozen = (work: () => void | Promise<void>): CallHook => {
    return (call, when) => (call === 'SOURCE.round.run' && when === 'before' && isFrozen() ? work() : undefined)
  }

  test('knows no limit of bandwidth, which holds again after it', async () => {
    const { id, end } = await held({ bandwidth: { limitBytesPerSecond: 65_536, windows: [] } })
    await ask(id)
    await endsAs(id, { state: 'PASSED' })
    await roundsMore(id, 2)
    expect(stage.world.look().limit).toBe(65_536)
    await cutsOver(id, end)
  })

  test('ends with the permitted downtime, and the source goes on at once', async () => {
    const { id, end } = await held({ permittedDowntimeMs: 300 })
    hook = whileFrozen(() => new Promise(() => {}))
    await ask(id)
    await endsAs(id, { state: 'FAILED', problem: expect.stringMatching(/longer than the permitted downtime of 0.3 s/) })
    expect(freezes()).toBe(1)
    expect(isFrozen()).toBe(false)
    hook = () => {}
    await cutsOver(id, end)
  })

  test('ends with an error in it: the guest is told to thaw, and not left to its watchdog', async () => {
    const { id, end } = await held()
    hook = whileFrozen(() => {
      throw new AgentError('AGENT_FAILED', 'The link is cut.', { retryable: true, agentCode: 'LINK_LOST' })
    })
    await ask(id)
    await endsAs(id, { state: 'FAILED', problem: 'The link is cut.' })
    expect(isFrozen()).toBe(false)
    hook = () => {}
    await cutsOver(id, end)
  })

  test('is not begun while sending the rest would take longer than is permitted', async () => {
    const { id, end } = await held()
    pendingMs = () => 1_000_000
    await eventually(async () => expect((await stage.store.read(id)).estimatedRemainingMs).toBeGreaterThan(1_000_000))
    await ask(id)
    await roundsMore(id, 3)
    expect(await testOf(id)).toMatchObject({ state: 'PENDING' })
    expect(freezes()).toBe(0)
    pendingMs = () => 1
    await endsAs(id, { state: 'PASSED' })
    await cutsOver(id, end)
  })

  test('is not begun while its operator pauses the migration, nor where the cutover comes next', async () => {
    const { id, end } = await held()
    const pauseOnce = async (call: string, when: string) => {
      if (call !== 'SOURCE.round.run' || when !== 'after') return
      hook = () => {}
      await stage.operations.pauseMigration(operator, key(id))
      await ask(id)
    }
    hook = pauseOnce
    await eventually(async () => expect((await stage.store.read(id)).state).toBe('PAUSED'))
    expect(await testOf(id)).toMatchObject({ state: 'PENDING' })
    expect(freezes()).toBe(0)
    await stage.operations.cutOverMigration(operator, key(id))
    await stage.operations.resumeMigration(operator, key(id))
    expect(await end).toMatchObject({ state: 'COMPLETED' })
    expect(await testOf(id)).toMatchObject({ state: 'FAILED', problem: 'The cutover came before the test had ended.' })
    expect(freezes()).toBe(1)
  })

  test('that a pause cuts short comes again once the migration goes on', async () => {
    const { id, end } = await held()
    hook = whileFrozen(async () => {
      await stage.operations.pauseMigration(operator, key(id))
      await new Promise(() => {})
    })
    await ask(id)
    await eventually(async () => expect((await stage.store.read(id)).state).toBe('PAUSED'))
    expect(await testOf(id)).toMatchObject({ state: 'PENDING' })
    expect(freezes()).toBe(1)
    expect(isFrozen()).toBe(false)
    hook = () => {}
    await stage.operations.resumeMigration(operator, key(id))
    await endsAs(id, { state: 'PASSED' })
    await cutsOver(id, end)
  })

  test('waits for the round that compares everything where an agent was started again', async () => {
    const { id, end } = await held()
    const modes: (string | undefined)[] = []
    let restarted = false
    hook = async (call, when) => {
      if (call === 'SOURCE.round.run' && when === 'after' && !restarted) {
        restarted = true
        await ask(id)
        stage.restartDestinationAgent()
      }
      if (call === 'SOURCE.freeze' && when === 'before') modes.push(Object.values(stage.world.look().rounds).at(-1)?.mode)
    }
    await endsAs(id, { state: 'PASSED' })
    expect(modes).toEqual(['FULL'])
    hook = () => {}
    await cutsOver(id, end)
  })

  test('is enough for a guest whose changes are not tracked: its round looks at everything', async () => {
    const { id, end } = await held()
    stage.world.change('no tracking', ({ rounds }) => {
      const [last] = Object.values(rounds).slice(-1)
      for (let round = last!.round + 1; round < last!.round + 500; round++)
        rounds[round] = { ...last!, round, mode: 'FULL', rescanNeeded: true, pendingBytes: 0 }
    })
    await ask(id)
    await endsAs(id, { state: 'PASSED', problem: null })
    expect(freezes()).toBe(1)
    await stage.operations.cancelMigration(operator, key(id))
    expect(await end).toMatchObject({ state: 'CANCELLED' })
  })
})

describe('a test boot that its cloud refuses', () => {
  const unreachable = () => new ProviderError('UNREACHABLE', 'libvirtd does not answer.', { retryable: true, remedy: 'Start it.' })
  const refuse = (...calls: string[]): CallHook => {
    return (call, when) => {
      if (calls.includes(call) && when === 'before') throw unreachable()
    }
  }

  test('to start has failed, and the migration goes on', async () => {
    const { id, end } = await held()
    hook = refuse('west.testBoot.start', 'west.testBoot.remove')
    await ask(id)
    await endsAs(id, { state: 'RUNNING', problem: 'libvirtd does not answer.' })
    hook = () => {}
    await endsAs(id, { state: 'FAILED', problem: 'libvirtd does not answer.' })
    await cutsOver(id, end)
  })

  test('to remove holds the cutover up until it is gone, says so, and passed all the same', async () => {
    const { id, end } = await held()
    hook = refuse('west.testBoot.remove')
    await ask(id)
    await endsAs(id, { state: 'RUNNING', healthyAfterMs: expect.any(Number) })
    await stage.operations.cutOverMigration(operator, key(id))
    await eventually(async () =>
      expect((await stage.store.read(id)).problem).toMatch(
        /test boot could not be begun or removed yet: libvirtd does not answer. It is tried/,
      ),
    )
    await roundsMore(id, 3)
    expect(await stage.store.read(id)).toMatchObject({ state: 'RUNNING', phase: 'READY_TO_CUT_OVER' })
    expect(testMachines()).toHaveLength(1)
    hook = () => {}
    expect(await end).toMatchObject({ state: 'COMPLETED' })
    expect(await testOf(id)).toMatchObject({ state: 'PASSED', problem: null })
    await expectMoved(stage)
  })

  test('to remove is removed by the way back, however often that is tried', async () => {
    const { id, end } = await held()
    hook = refuse('west.testBoot.remove')
    await ask(id)
    await endsAs(id, { state: 'RUNNING', healthyAfterMs: expect.any(Number) })
    const cancelled = stage.operations.cancelMigration(operator, key(id))
    await eventually(async () => expect((await stage.store.read(id)).problem).toMatch(/Undoing READY_TO_CUT_OVER did not work yet/))
    hook = () => {}
    await cancelled
    expect(await end).toMatchObject({ state: 'CANCELLED' })
    expect(await testOf(id)).toMatchObject({ state: 'PASSED' })
    expect(testMachines()).toEqual([])
    await expectUndone(stage)
  })

  test('to remove, and that a control plane before this one left, does not end the migration either', async () => {
    const { id, runner, end } = await held()
    stage.health.status = 500
    await ask(id)
    await eventually(() => expect(testMachines()).toHaveLength(1))
    await runner.close()
    await expect(end).rejects.toThrow()
    hook = refuse('west.testBoot.remove')
    const second = stage.drive(stage.runner(), id)
    await roundsMore(id, 3)
    expect(await testOf(id)).toMatchObject({ state: 'RUNNING' })
    hook = () => {}
    await endsAs(id, { state: 'FAILED', problem: expect.stringMatching(/restarted/) })
    stage.health.status = 200
    await cutsOver(id, second)
  })
})

test('a removal that starts over when it is cut short, and takes longer than other undos may, does not keep a cancelled migration from its end', async () => {
  const undoMs = 250
  await stage.close()
  stage = await setMigrationStage({ hook: (call, when) => hook(call, when), timings: { undoMs } })
  const { id, end } = await held()
  // A merge begins anew with each call, and the fake's own look at the signal ends the call that was cut short meanwhile.
  hook = (call, when) => (call === 'west.testBoot.remove' && when === 'before' ? delay(4 * undoMs) : undefined)
  stage.health.status = 500
  await ask(id)
  await eventually(() => expect(testMachines()).toHaveLength(1))
  await stage.operations.cancelMigration(operator, key(id))
  expect(await end).toMatchObject({ state: 'CANCELLED' })
  expect(testMachines()).toEqual([])
  await expectUndone(stage)
})

test('a test boot that a copy which does not converge cut short says that the migration ended', async () => {
  const healthCheck = { kind: 'HTTP' as const, port: 8080, path: '/', timeoutMs: 60_000 }
  const { id, end } = await held({ nonConvergencePolicy: 'ABORT', healthCheck })
  stage.health.status = 500
  await ask(id)
  await eventually(() => expect(testMachines()).toHaveLength(1))
  pendingMs = () => 1_000_000
  expect(await end).toMatchObject({ state: 'FAILED', errorCode: 'NOT_CONVERGING' })
  expect(await testOf(id)).toMatchObject({ state: 'FAILED', problem: 'The migration ended before the test had.' })
  const events = await stage.database.select().from(migrationEvents).where(eq(migrationEvents.migrationId, id))
  expect(events.filter(({ message }) => message.startsWith('The test boot failed'))).toHaveLength(1)
  await expectUndone(stage)
})
