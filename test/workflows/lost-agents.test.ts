import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { migrationEvents } from '../../src/database/tables/migration.ts'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import type { CallHook } from './support/fake-clouds.ts'
import { expectMoved, expectUndone, operator, quickTimings, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

let stage: MigrationStage
let hook: CallHook
beforeEach(async () => {
  hook = () => {}
  stage = await setMigrationStage({ hook: (call, when) => hook(call, when) })
})
afterEach(() => stage.close())

const powerOffTheLandingImage = () =>
  stage.world.change('power', ({ machines }) => {
    for (const machine of Object.values(machines)) if (machine.system === 'LANDING') machine.power = 'STOPPED'
  })

test('a destination that loses its power in a round boots its landing image again over the same disks, and the migration goes on', async () => {
  let times = 0
  hook = (call, when) => {
    if (call === 'SOURCE.round.run' && when === 'before' && times++ === 0) powerOffTheLandingImage()
  }
  const id = await stage.start()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
  const { calls, machines } = stage.world.look()
  expect(calls.filter((call) => call === 'west.discardOverlay')).toHaveLength(1)
  expect(calls.filter((call) => call === 'west.instantiate')).toHaveLength(1)
  expect(Object.keys(machines)).toHaveLength(1)
  await expectMoved(stage)
})

test('a landing image whose agent never dials in is booted again, before anything was copied', async () => {
  hook = (call, when) => {
    if (call === 'west.instantiate' && when === 'after') powerOffTheLandingImage()
  }
  expect(await stage.drive(stage.runner(), await stage.start())).toMatchObject({ state: 'COMPLETED' })
  expect(stage.world.look().calls.filter((call) => call === 'west.discardOverlay')).toHaveLength(1)
  await expectMoved(stage)
})

test('one that loses it again and again, without a round in between, ends the migration', async () => {
  hook = (call, when) => {
    if (call === 'SOURCE.round.run' && when === 'before') powerOffTheLandingImage()
  }
  const migration = await stage.drive(stage.runner(), await stage.start())
  expect(migration).toMatchObject({ state: 'FAILED', errorCode: 'AGENT_UNREACHABLE' })
  expect(stage.world.look().calls.filter((call) => call === 'west.discardOverlay')).toHaveLength(3)
})

test('a source that loses its power before its agent is there is waited for, and ends the migration where nobody starts it', async () => {
  const lose = (call: string, when: string) => {
    if (call !== 'east.install' || when !== 'before') return
    stage.world.change('power', ({ source }) => void (source.power = 'STOPPED'))
    throw new ProviderError('UNREACHABLE', "The guest can't be logged in to.", { retryable: true, remedy: 'Start it.' })
  }
  hook = lose
  const failed = await stage.drive(stage.runner(), await stage.start())
  expect(failed).toMatchObject({ state: 'FAILED', errorCode: 'AGENT_UNREACHABLE', errorRetryable: true })
  let times = 0
  hook = (call, when) => {
    if (call === 'east.install' && when === 'before' && times++ === 0) {
      setTimeout(() => stage.world.change('power', ({ source }) => void (source.power = 'RUNNING')), 200)
      lose(call, when)
    }
  }
  stage.world.change('power', ({ source }) => void (source.power = 'RUNNING'))
  expect(await stage.drive(stage.runner(), await stage.start())).toMatchObject({ state: 'COMPLETED' })
})

test('a source that loses its power once its agent was installed, and stays off, ends the migration', async () => {
  hook = (call, when) => {
    if (call === 'east.install' && when === 'after')
      stage.world.change('power', ({ source }) => Object.assign(source, { power: 'STOPPED', agentInstance: null }))
  }
  expect(await stage.drive(stage.runner(), await stage.start())).toMatchObject({
    state: 'FAILED',
    errorCode: 'AGENT_UNREACHABLE',
    errorMessage: expect.stringContaining('The source virtual machine is off'),
  })
})

test('an agent that takes longer to start than a lost one is waited for is not installed a second time', async () => {
  await stage.close()
  stage = await setMigrationStage({ hook: (call, when) => hook(call, when), timings: { lostMs: 40 } })
  let starting: string | null = null
  let asked = 0
  hook = (call, when) => {
    if (call === 'east.install' && when === 'after')
      stage.world.change('starting', ({ source }) => ([starting, source.agentInstance] = [source.agentInstance, null]))
    if (call === 'SOURCE.agent' && when === 'before' && ++asked === 6)
      stage.world.change('started', ({ source }) => void (source.agentInstance = starting))
  }
  expect(await stage.drive(stage.runner(), await stage.start())).toMatchObject({ state: 'COMPLETED' })
  expect(stage.world.look().calls.filter((call) => call === 'east.install')).toHaveLength(1)
})

test('a source whose control link is down when its migration is paused is told to stop all the same, and nobody waits for its answer', async () => {
  const id = await stage.start()
  let told = 0
  let rounds = 0
  hook = async (call, when) => {
    if (when !== 'before') return
    if (call === 'SOURCE.round.stop') told++
    else if (call !== 'SOURCE.round.run' || rounds++ > 0) return
    else {
      stage.dropSourceControlLink(true)
      await stage.operations.pauseMigration(operator, { idempotencyKey: 'pause', migrationId: id })
    }
    await new Promise(() => {})
  }
  const end = stage.drive(stage.runner(), id)
  await vi.waitFor(async () => expect((await stage.store.read(id)).state).toBe('PAUSED'), 20_000)
  expect(told).toBe(1)
  stage.dropSourceControlLink(false)
  await stage.operations.resumeMigration(operator, { idempotencyKey: 'resume', migrationId: id })
  expect(await end).toMatchObject({ state: 'COMPLETED' })
})

describe('a source that loses its power in a round', () => {
  const powerOff = () => stage.world.change('power', ({ source }) => Object.assign(source, { power: 'STOPPED', agentInstance: null }))
  const start = () => stage.world.change('power', ({ source }) => void (source.power = 'RUNNING'))
  const forEver = new Promise<void>(() => {})

  test("is not waited for as long as a round may stall, though its agent's connection looks alive; once it is started, its agent is installed again", async () => {
    await stage.close()
    // Longer than the test may take.
    stage = await setMigrationStage({ hook: (call, when) => hook(call, when), timings: { stallMs: 600_000 } })
    let times = 0
    hook = (call, when) => {
      if (call !== 'SOURCE.round.run' || when !== 'before' || times++ > 0) return
      powerOff()
      setTimeout(start, 200)
      return forEver
    }
    expect(await stage.drive(stage.runner(), await stage.start())).toMatchObject({ state: 'COMPLETED' })
    expect(stage.world.look().calls.filter((call) => call === 'east.install')).toHaveLength(2)
    await expectMoved(stage)
  })

  test('and stays off, ends the migration without an attempt to install anything there', async () => {
    hook = (call, when) => {
      if (call !== 'SOURCE.round.run' || when !== 'before') return
      powerOff()
      return forEver
    }
    const migration = await stage.drive(stage.runner(), await stage.start())
    expect(migration).toMatchObject({
      state: 'FAILED',
      errorCode: 'AGENT_UNREACHABLE',
      errorMessage: expect.stringContaining('The source virtual machine is off'),
    })
    expect(stage.world.look().calls.filter((call) => call === 'east.install')).toHaveLength(1)
  })
})

describe('the way back of a source that runs', () => {
  const failing = async (uninstall: () => ProviderError | null) => {
    stage.health.status = 500
    hook = (call, when) => {
      const error = call === 'east.uninstall' && when === 'before' ? uninstall() : null
      if (error) throw error
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', errorCode: 'HEALTH_CHECK_FAILED', problem: null })
    const events = await stage.database.select().from(migrationEvents).where(eq(migrationEvents.migrationId, id))
    return events.filter(({ phase, kind }) => phase === 'INSTALL_AGENTS' && kind === 'NOTICE').map(({ message }) => message)
  }
  const error = (code: 'UNREACHABLE' | 'UNAUTHORIZED' | 'INTERNAL') =>
    new ProviderError(code, 'It did not work.', { retryable: true, remedy: 'Try again.' })

  test.each(['UNREACHABLE', 'UNAUTHORIZED'] as const)(
    'ends though its guest can not be logged in to any more (%s), says what is left in it, and shuts that out',
    async (code) => {
      const notices = await failing(() => error(code))
      expect(notices).toEqual([expect.stringMatching(/east\/vm-1.*It did not work\..*next boot.*pkill/s)])
      const { source, machines } = stage.world.look()
      expect(source).toMatchObject({ power: 'RUNNING', fence: null, freeze: null })
      expect(Object.values(machines)).toEqual([expect.objectContaining({ power: 'STOPPED' })])
      expect(stage.closedMigrations).toHaveLength(1)
      expect(await stage.isLocked()).toBe(false)
    },
  )

  test.each([
    ['its guest can be logged in to again before long', 'UNREACHABLE', 0],
    [
      'what fails in its guest, as while the kernel still freezes, has passed, however long that takes',
      'INTERNAL',
      2 * quickTimings.agentMs,
    ],
  ] as const)('removes the agent once %s', async (_, code, forMs) => {
    let until: number | null = null
    const notices = await failing(() => {
      const isFirst = until === null
      until ??= performance.now() + forMs
      return isFirst || performance.now() < until ? error(code) : null
    })
    expect(notices).toEqual([])
    await expectUndone(stage)
  })
})
