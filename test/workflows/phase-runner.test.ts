import { LibsqlError } from '@libsql/client'
import { DrizzleQueryError, eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { AgentError } from '../../src/agent-gateway/agent-error.ts'
import { clouds } from '../../src/database/tables/cloud.ts'
import { migrationEvents } from '../../src/database/tables/migration.ts'
import type { MigrationPhase } from '../../src/domain/migration.ts'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { phaseLists, type PhaseLists } from '../../src/workflows/phase-lists.ts'
import type { Phase } from '../../src/workflows/phase.ts'
import type { PhaseRunner } from '../../src/workflows/phase-runner.ts'
import { sourceMachineId } from './support/fake-clouds.ts'
import { sourceUniqueId } from './support/fake-world.ts'
import { expectMoved, expectUndone, operator, quickTimings, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

const list = phaseLists[2]!
const beforeCommit = list.slice(
  0,
  list.findIndex(({ name }) => name === 'COMMIT'),
)
const undoable = list.filter(({ undo }) => undo !== null)

let stage: MigrationStage
let hook: (call: string, when: 'before' | 'after') => void | Promise<void> = () => {}
let pendingMs: (round: number) => number = () => 1

beforeEach(async () => {
  hook = () => {}
  pendingMs = () => 1
  stage = await setMigrationStage({ hook: (call, when) => hook(call, when), pendingMs: (round) => pendingMs(round) })
})
afterEach(() => stage.close())

function changed(name: MigrationPhase, change: (phase: Phase) => Partial<Phase>): PhaseLists {
  return { 2: list.map((phase) => (phase.name === name ? { ...phase, ...change(phase) } : phase)) }
}

/** As patient as a busy machine asks for. */
const eventually = (condition: () => unknown) => vi.waitFor(condition, 20_000)

function sourceGoesSilentAtTheFreeze(code: 'UNREACHABLE' | 'TIMED_OUT' = 'UNREACHABLE'): void {
  let gone = false
  hook = (call) => {
    if (call === 'SOURCE.freeze') gone = true
    if (gone && (call.startsWith('east.') || call.startsWith('SOURCE.')))
      throw new ProviderError(code, 'No answer.', { retryable: true, remedy: 'Wait.' })
  }
}

const broken = () => new ProviderError('INTERNAL', 'It broke.', { retryable: false, remedy: 'None.' })

test('a machine moves: one live copy, everything in it, the source off and kept', async () => {
  const id = await stage.start()
  const migration = await stage.drive(stage.runner(), id)
  expect(migration).toMatchObject({ state: 'COMPLETED', phase: 'CLEAN_UP', trackingMode: 'TRACEFS', via: 'DIRECT', problem: null })
  expect(migration.sourceRoot).toBe(migration.destinationRoot)
  const { freezeMs, transferMs, verifyMs, bootMs, healthMs } = migration.downtime!
  for (const part of [freezeMs, transferMs, verifyMs, bootMs, healthMs]) expect(part).toBeGreaterThanOrEqual(0)
  expect(migration.bytesSent).toBeGreaterThan(0)
  await expectMoved(stage)
})

describe('a failure that stays', () => {
  test.each(beforeCommit.map(({ name }) => name))('before anything in %s leaves the source in service', async (name) => {
    const id = await stage.start()
    const runner = stage.runner(
      changed(name, () => ({
        do: async () => {
          throw broken()
        },
      })),
    )
    expect(await stage.drive(runner, id)).toMatchObject({ state: 'FAILED', errorMessage: 'It broke.' })
    await expectUndone(stage)
  })

  test.each(beforeCommit.map(({ name }) => name))('after all of %s leaves the source in service', async (name) => {
    const id = await stage.start()
    const runner = stage.runner(
      changed(name, (phase) => ({
        do: async (context) => {
          await phase.do(context)
          throw broken()
        },
      })),
    )
    expect(await stage.drive(runner, id)).toMatchObject({ state: 'FAILED' })
    await expectUndone(stage)
  })
})

describe('a failure that passes', () => {
  const retried = list.filter(({ ownRetries }) => !ownRetries)
  test.each(retried.map(({ name }) => name))('after all of %s only repeats it, or the switchover', async (name) => {
    const id = await stage.start()
    let tries = 0
    const lists = changed(name, (phase) => ({
      do: async (context) => {
        const outcome = await phase.do(context)
        if (tries++ === 0) throw new ProviderError('UNREACHABLE', 'The answer was lost.', { retryable: true, remedy: 'Wait.' })
        return outcome
      },
    }))
    expect(await stage.drive(stage.runner(lists), id)).toMatchObject({ state: 'COMPLETED', problem: null })
    expect(tries).toBeGreaterThan(1)
    await expectMoved(stage)
  })
})

test('a phase that is given up after all its tries says what each of them was told, and what helps', async () => {
  const lists = changed('INSTANTIATE_DESTINATION', () => ({
    timeoutMs: 50,
    do: async () => {
      throw new ProviderError('UNREACHABLE', 'No answer.', { retryable: true, remedy: 'Start the cloud.' })
    },
  }))
  const id = await stage.start()
  const ended = await stage.drive(stage.runner(lists), id)
  expect(ended).toMatchObject({ state: 'FAILED', errorCode: 'TIMED_OUT', errorRetryable: true, errorRemedy: 'Start the cloud.' })
  expect(ended.errorMessage).toMatch(/^INSTANTIATE_DESTINATION did not end within 0\.05 s.* No answer\.$/)
  const events = await stage.database.select().from(migrationEvents).where(eq(migrationEvents.migrationId, id))
  expect(events.filter(({ kind }) => kind === 'PHASE_FAILED').map(({ message }) => message)).toEqual([ended.errorMessage])
  await expectUndone(stage)
})

describe('a crash of the control plane', () => {
  const crashAt = (name: MigrationPhase, runner: () => PhaseRunner) =>
    changed(name, (phase) => ({
      do: async (context) => {
        await phase.do(context)
        // What the phase did stays, its answer is lost.
        void runner().close()
        throw new Error('crashed')
      },
    }))

  test.each(list.map(({ name }) => name))('at the end of %s only repeats it', async (name) => {
    const id = await stage.start()
    const first: PhaseRunner = stage.runner(crashAt(name, () => first))
    await expect(stage.drive(first, id)).rejects.toThrow('The control plane is ending')
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
    await expectMoved(stage)
  })

  test.each(['SEND_REMAINDER', 'COMPARE_ROOTS', 'SUSPEND_SOURCE'] as const)('during %s voids that switchover', async (name) => {
    const id = await stage.start()
    const first: PhaseRunner = stage.runner(crashAt(name, () => first))
    await expect(stage.drive(first, id)).rejects.toThrow()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', switchover: 2, voidedSwitchovers: 0 })
    await expectMoved(stage)
  })
})

describe('the way back', () => {
  // After the health check there is nothing to undo of COMMIT and FENCE_SOURCE.
  test.each(undoable.filter(({ name }) => name !== 'COMMIT' && name !== 'FENCE_SOURCE').map(({ name }) => name))(
    'from a failed health check does the undo of %s again when its answer was lost',
    async (name) => {
      stage.health.status = 500
      let undone = 0
      const lists = changed(name, (phase) => ({
        undo: async (context) => {
          await phase.undo!(context)
          if (undone++ === 0) throw broken()
        },
      }))
      const id = await stage.start()
      expect(await stage.drive(stage.runner(lists), id)).toMatchObject({ state: 'FAILED', errorCode: 'HEALTH_CHECK_FAILED' })
      expect(undone).toBe(2)
      await expectUndone(stage)
    },
  )

  test('is gone on with by the next control plane', async () => {
    stage.health.status = 500
    const lists = changed('FREEZE', (phase) => ({
      undo: async (context) => {
        await phase.undo!(context)
        void first.close()
        throw new Error('crashed')
      },
    }))
    const id = await stage.start()
    const first: PhaseRunner = stage.runner(lists)
    await expect(stage.drive(first, id)).rejects.toThrow()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED' })
    await expectUndone(stage)
  })

  test('ends at the destination too when its machine was made without our having the answer', async () => {
    hook = (call, when) => {
      if (call === 'west.instantiate' && when === 'after') throw broken()
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED' })
    await expectUndone(stage)
  })
})

describe('the commit', () => {
  test('whose answer was lost is found at the destination, and the migration goes on', async () => {
    let lost = false
    hook = (call, when) => {
      const state = stage.world.look()
      if (call !== 'west.put' || when !== 'after' || lost || !Object.keys(state.records).some((key) => key.endsWith('.outcome'))) return
      lost = true
      throw broken()
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', errorCode: null })
    expect(lost).toBe(true)
    await expectMoved(stage)
  })

  test('that the destination refuses is called off there before the source goes on', async () => {
    let puts = 0
    hook = (call, when) => {
      if (call === 'west.put' && when === 'before' && ++puts === 3) throw broken()
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED' })
    expect(Object.values(stage.world.look().records).map(({ content }) => content['decision'])).toEqual([undefined, undefined, 'ABANDONED'])
    await expectUndone(stage)
  })

  test('is asked about until the destination answers; the source stays suspended meanwhile', async () => {
    let puts = 0
    const powers = new Set<string>()
    hook = (call, when) => {
      if (call !== 'west.put' || when !== 'before' || ++puts < 3 || puts > 6) return
      powers.add(stage.world.look().source.power)
      throw broken()
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED' })
    expect([...powers]).toEqual(['SUSPENDED'])
    await expectUndone(stage)
  })

  test('is never undone by what fails after it', async () => {
    let failures = 0
    hook = (call, when) => {
      if (['west.expose', 'east.stop', 'west.flatten'].includes(call) && when === 'after' && failures++ % 2 === 0) throw broken()
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
    await expectMoved(stage)
  })
})

describe('a switchover', () => {
  test('is void when nobody can vouch for the freeze until the suspension, and comes again', async () => {
    let suspensions = 0
    let slow = false
    hook = async (call, when) => {
      if (when !== 'before') return
      if (call === 'SOURCE.freeze.renew' && slow) throw new AgentError('TIMED_OUT', 'No answer.', { retryable: true })
      if (call !== 'east.suspend' || suspensions++ > 0) return
      slow = true
      await new Promise((later) => setTimeout(later, quickTimings.leaseMs))
      slow = false
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', switchover: 2, voidedSwitchovers: 1 })
    await expectMoved(stage)
  })

  test('is void when the guest is reset between the roots and the suspension, and its next boot serves before the lease would have lapsed', async () => {
    let reset = false
    hook = (call, when) => {
      if (call === 'SOURCE.root' && when === 'after' && !reset) {
        reset = true
        stage.world.change('reset', ({ source }) => void (source.freeze = null))
      } else if (call === 'SOURCE.freeze.renew' && reset && stage.world.look().source.freeze === null)
        throw new AgentError('TIMED_OUT', 'No answer.', { retryable: true })
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', switchover: 2, voidedSwitchovers: 1 })
    await expectMoved(stage)
  })

  describe('whose remainder does not get through', () => {
    /** The first one hangs, as one that tries to reach the other side does. */
    const hang = (meanwhile: () => void) => {
      let hung = false
      hook = async (call, when) => {
        if (hung || call !== 'SOURCE.round.run' || when !== 'before' || stage.world.look().source.freeze === null) return
        hung = true
        meanwhile()
        await new Promise(() => {})
      }
    }
    const expectVoidSince = async (id: string, reason: RegExp) => {
      expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', switchover: 2, voidedSwitchovers: 1 })
      const events = await stage.database.select().from(migrationEvents).where(eq(migrationEvents.migrationId, id))
      expect(events.map(({ message }) => message)).toContainEqual(expect.stringMatching(reason))
      await expectMoved(stage)
    }

    test('is void at once where the agent at the other end was killed', async () => {
      hang(() => stage.restartDestinationAgent())
      await expectVoidSince(await stage.start(), /switchover is void: The DESTINATION agent was started again/)
    })

    test('is void long before a round of a source that serves would be given up', async () => {
      hang(() => {})
      await expectVoidSince(await stage.start(), /switchover is void: Round \d+ made no progress for 0.5 s/)
    })

    test('is void once the whole permitted downtime is over', async () => {
      hang(() => {})
      await expectVoidSince(await stage.start({ permittedDowntimeMs: 300 }), /took longer than the permitted downtime of 0.3 s/)
    })
  })

  test('is void where an agent is gone just before the freeze: that may not take all of the time that the freeze has', async () => {
    const patient = await setMigrationStage({ hook: (call, when) => hook(call, when), timings: { agentMs: 60_000 } })
    try {
      let [armed, lost] = [false, false]
      hook = async (call, when) => {
        if (call === 'east.arm' && when === 'after') armed = true
        if (call !== 'SOURCE.agent' || !armed || lost) return
        lost = true
        await new Promise(() => {})
      }
      const id = await patient.start()
      const runner = patient.runner(changed('FREEZE', () => ({ timeoutMs: 5_000 })))
      expect(await patient.drive(runner, id)).toMatchObject({ state: 'COMPLETED', switchover: 2, voidedSwitchovers: 1 })
      await expectMoved(patient)
    } finally {
      await patient.close()
    }
  })

  test('is void when a renewal says that the freeze lapsed', async () => {
    let lapses = 0
    hook = (call, when) => {
      if (call === 'SOURCE.root' && when === 'before' && lapses++ === 0)
        stage.world.change('lapse', ({ source }) => void Object.assign(source.freeze ?? {}, { void: true }))
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', switchover: 2, voidedSwitchovers: 1 })
    await expectMoved(stage)
  })

  const lapse = () => stage.world.change('lapse', ({ source }) => source.freeze && void (source.freeze.void = true))
  test.each([
    ['ROOTS_DIFFER', 'SOURCE.root', () => stage.world.change('write', (state) => void state.content++)],
    ['LEASE_LAPSED', 'SOURCE.round.run', lapse],
    [
      'AGENT_UNREACHABLE',
      'SOURCE.root',
      () => {
        throw new AgentError('TIMED_OUT', 'No answer.', { retryable: true })
      },
    ],
  ])(
    'that is voided again and again fails the migration, with %s where %s met that, and says to retry it',
    async (errorCode, at, spoil) => {
      hook = (call, when) => {
        if (call === at && when === 'before') spoil()
      }
      const id = await stage.start()
      expect(await stage.drive(stage.runner(), id)).toMatchObject({
        state: 'FAILED',
        errorCode,
        errorRetryable: true,
        errorMessage: expect.stringMatching(/voided 6 times, the last time since/) as string,
        errorRemedy: expect.stringMatching(/events.*retry/) as string,
        copyKept: true,
      })
      await expectUndone(stage)
    },
  )
})

describe('the operator', () => {
  const key = (idempotencyKey: string, migrationId: string) => ({ idempotencyKey, migrationId })

  test.each(beforeCommit.map(({ name }) => name))('cancels in %s, and everything is undone', async (name) => {
    const reached = Promise.withResolvers<void>()
    const lists = changed(name, (phase) => ({
      do: async (context) => {
        reached.resolve()
        await new Promise<never>((_resolve, reject) =>
          context.signal.addEventListener('abort', () => reject(context.signal.reason as Error)),
        )
        return phase.do(context)
      },
    }))
    const id = await stage.start()
    const end = stage.drive(stage.runner(lists), id)
    await reached.promise
    await stage.operations.cancelMigration(operator, key('cancel', id))
    expect(await end).toMatchObject({ state: 'CANCELLED', errorCode: null })
    await expectUndone(stage)
  })

  test('is told what it is at: waiting to begin, paused, and how long the health check may take', async () => {
    const said: (string | null)[] = []
    const lists = changed('HEALTH_CHECK', (phase) => ({
      do: async (context) => {
        said.push((await context.reread()).activity)
        return phase.do(context)
      },
    }))
    const id = await stage.start({ cutoverPolicy: 'MANUAL', healthCheck: { kind: 'HTTP', port: 8080, path: '/', timeoutMs: 7_000 } })
    expect((await stage.store.read(id)).activity).toMatch(/^Waits for its control plane/)
    const end = stage.drive(stage.runner(lists), id)
    await eventually(async () => expect((await stage.store.read(id)).phase).toBe('READY_TO_CUT_OVER'))
    await stage.operations.pauseMigration(operator, key('pause', id))
    await eventually(async () => expect((await stage.store.read(id)).activity).toMatch(/^Is paused/))
    await stage.operations.resumeMigration(operator, key('resume', id))
    await stage.operations.cutOverMigration(operator, key('cut', id))
    expect(await end).toMatchObject({ state: 'COMPLETED', activity: null })
    expect(said).toEqual([expect.stringMatching(/given up after 7 s/)])
    await stage.operations.rollbackMigration(operator, key('back', id))
    expect((await stage.store.read(id)).activity).toMatch(/^Waits for its control plane/)
  })

  test('holds at READY_TO_CUT_OVER, syncing, until he says so', async () => {
    const id = await stage.start({ cutoverPolicy: 'MANUAL' })
    const end = stage.drive(stage.runner(), id)
    await eventually(async () => {
      const migration = await stage.store.read(id)
      expect(migration.phase).toBe('READY_TO_CUT_OVER')
      expect((await stage.store.lastRound(migration))!.round).toBeGreaterThan(2)
    })
    await stage.operations.cutOverMigration(operator, key('cut', id))
    expect(await end).toMatchObject({ state: 'COMPLETED' })
    await expectMoved(stage)
  })

  test('pauses and resumes', async () => {
    const id = await stage.start({ cutoverPolicy: 'MANUAL' })
    const end = stage.drive(stage.runner(), id)
    await eventually(async () => expect((await stage.store.read(id)).phase).toBe('READY_TO_CUT_OVER'))
    await stage.operations.pauseMigration(operator, key('pause', id))
    await eventually(async () => expect((await stage.store.read(id)).state).toBe('PAUSED'))
    const round = (await stage.store.lastRound(await stage.store.read(id)))!.round
    await stage.operations.cutOverMigration(operator, key('cut', id))
    await stage.operations.resumeMigration(operator, key('resume', id))
    expect(await end).toMatchObject({ state: 'COMPLETED' })
    expect(round).toBeGreaterThan(0)
    await expectMoved(stage)
  })

  test('resumes a migration that no control plane runs, and sees it RUNNING once one does', async () => {
    const id = await stage.start({ cutoverPolicy: 'MANUAL' })
    const first = stage.runner()
    const cutShort = expect(stage.drive(first, id)).rejects.toThrow('The control plane is ending')
    await eventually(async () => expect((await stage.store.read(id)).phase).toBe('READY_TO_CUT_OVER'))
    await stage.operations.pauseMigration(operator, key('pause', id))
    await eventually(async () => expect((await stage.store.read(id)).state).toBe('PAUSED'))
    await first.close()
    await cutShort
    await stage.operations.resumeMigration(operator, key('resume', id))
    const end = stage.drive(stage.runner(), id)
    await eventually(async () => expect((await stage.store.read(id)).state).toBe('RUNNING'))
    await stage.operations.cutOverMigration(operator, key('cut', id))
    expect(await end).toMatchObject({ state: 'COMPLETED' })
  })

  test.each(['CANCELLED', 'FAILED'] as const)(
    'sees a migration that is %s while it is paused as RUNNING until it is undone',
    async (state) => {
      const seen: string[] = []
      const paused = Promise.withResolvers<void>()
      const lists: PhaseLists = {
        2: list.map((phase) => {
          if (phase.name === 'INSTANTIATE_DESTINATION')
            return {
              ...phase,
              undo: async (context) => {
                seen.push((await context.reread()).state)
                await phase.undo!(context)
              },
            }
          if (phase.name !== 'SYNC') return phase
          return {
            ...phase,
            // As a pause is left that is cut short.
            do: async ({ store, migration, signal }) => {
              await store.write(migration, { patch: { state: 'PAUSED' } })
              if (state === 'FAILED') throw broken()
              paused.resolve()
              await new Promise<never>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)))
              throw broken()
            },
          }
        }),
      }
      const id = await stage.start()
      const end = stage.drive(stage.runner(lists), id)
      if (state === 'CANCELLED') {
        await paused.promise
        await stage.operations.cancelMigration(operator, key('cancel', id))
      }
      expect(await end).toMatchObject({ state })
      expect(seen).toEqual(['RUNNING'])
    },
  )

  test.each([
    ['a pause', (id: string) => stage.operations.pauseMigration(operator, key('late', id))],
    [
      'a postponed cutover',
      (id: string) => stage.operations.cutOverMigration(operator, { ...key('late', id), at: new Date(Date.now() + 3_600_000) }),
    ],
  ])('is granted %s in the last moment before the switchover', async (_, wish) => {
    let wished = 0
    const lists = changed('READY_TO_CUT_OVER', (phase) => ({
      do: async (context) => {
        const outcome = await phase.do(context)
        if (wished++ === 0) await wish(context.migration.id)
        return outcome
      },
    }))
    const id = await stage.start()
    const end = stage.drive(stage.runner(lists), id)
    await eventually(async () => expect(await stage.store.read(id)).toMatchObject({ switchover: 2, voidedSwitchovers: 0 }))
    await eventually(async () => expect((await stage.store.read(id)).phase).toMatch(/SYNC|READY_TO_CUT_OVER/))
    const { calls } = stage.world.look()
    expect(calls.filter((call) => call === 'east.arm' || call === 'SOURCE.freeze')).toEqual([])
    await stage.operations.resumeMigration(operator, key('resume', id))
    await stage.operations.cutOverMigration(operator, key('cut', id))
    expect(await end).toMatchObject({ state: 'COMPLETED', switchover: 2 })
    await expectMoved(stage)
  })

  test('finds the estimate made anew after a pause before the cutover', async () => {
    const lists = changed('SYNC', (phase) => ({
      do: async (context) => {
        const outcome = await phase.do(context)
        await stage.operations.pauseMigration(operator, key('pause', context.migration.id))
        return outcome
      },
    }))
    const id = await stage.start()
    const end = stage.drive(stage.runner(lists), id)
    await eventually(async () => expect(await stage.store.read(id)).toMatchObject({ state: 'PAUSED', phase: 'READY_TO_CUT_OVER' }))
    const before = stage.world.look().calls.length
    await new Promise((later) => setTimeout(later, quickTimings.holdMs))
    await stage.operations.resumeMigration(operator, key('resume', id))
    expect(await end).toMatchObject({ state: 'COMPLETED' })
    const since = stage.world.look().calls.slice(before)
    expect(since.slice(0, since.indexOf('east.arm'))).toContain('SOURCE.round.run')
  })

  test('is refused once the destination has taken over', async () => {
    const id = await stage.start()
    await stage.drive(stage.runner(), id)
    await expect(stage.operations.cancelMigration(operator, key('late', id))).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
  })
})

describe('a link between the agents', () => {
  const cut = () => new AgentError('AGENT_FAILED', 'The link is cut.', { retryable: true, agentCode: 'LINK_LOST' })

  test('that is cut for a while delays the rounds', async () => {
    let cuts = 3
    hook = (call, when) => {
      if (call === 'SOURCE.round.run' && when === 'before' && cuts-- > 0) throw cut()
    }
    expect(await stage.drive(stage.runner(), await stage.start())).toMatchObject({ state: 'COMPLETED' })
    await expectMoved(stage)
  })

  test('that is cut after one of them was started again is told of that once', async () => {
    let rounds = 0
    hook = (call, when) => {
      if (call !== 'SOURCE.round.run' || when === 'after') return
      if (rounds++ === 0) stage.restartDestinationAgent()
      if (rounds <= 3) throw cut()
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
    const events = await stage.database.select().from(migrationEvents).where(eq(migrationEvents.migrationId, id))
    expect(events.filter(({ message }) => message.includes('destination was started again'))).toHaveLength(1)
    await expectMoved(stage)
  })

  test('that is cut for good ends the migration after a time, with an error that says so', async () => {
    hook = (call) => {
      if (call === 'SOURCE.round.run') throw cut()
    }
    const migration = await stage.drive(stage.runner(), await stage.start())
    expect(migration).toMatchObject({ state: 'FAILED', errorCode: 'AGENT_UNREACHABLE', errorRetryable: true })
    expect(migration.errorMessage).toBe('No round could be run for 1 s, so the migration is undone: The link is cut.')
    await expectUndone(stage)
  })
})

test('a source that somebody powers off in a round ends the migration, and leaves nothing at the destination', async () => {
  const unreachable = () => new ProviderError('UNREACHABLE', 'The guest is off.', { retryable: true, remedy: 'Start it.' })
  hook = (call, when) => {
    if (call === 'SOURCE.round.run' && when === 'before')
      stage.world.change('power', ({ source }) => Object.assign(source, { power: 'STOPPED', agentInstance: null }))
    if (['east.install', 'east.uninstall'].includes(call) && stage.world.look().source.power === 'STOPPED') throw unreachable()
  }
  expect(await stage.drive(stage.runner(), await stage.start())).toMatchObject({
    state: 'FAILED',
    errorCode: 'AGENT_UNREACHABLE',
    errorMessage: expect.stringContaining('The source virtual machine is off'),
  })
  expect(stage.world.look().machines).toEqual({})
  expect(await stage.isLocked()).toBe(false)
})

describe('rounds that do not get shorter', () => {
  beforeEach(() => {
    pendingMs = () => 1_000_000
  })

  test('go on for ever by default, and say so', async () => {
    const id = await stage.start()
    const end = stage.drive(stage.runner(), id)
    await eventually(async () => expect((await stage.store.read(id)).convergence).toBe('NOT_CONVERGING'))
    pendingMs = () => 1
    expect(await end).toMatchObject({ state: 'COMPLETED' })
  })

  test('end the migration under the policy ABORT', async () => {
    const id = await stage.start({ nonConvergencePolicy: 'ABORT' })
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', errorCode: 'NOT_CONVERGING' })
    await expectUndone(stage)
  })

  test('end in a cut-over all the same under the policy FORCE', async () => {
    const id = await stage.start({ nonConvergencePolicy: 'FORCE' })
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
    await expectMoved(stage)
  })
})

test('a migration goes on with the list of phases that it began with', async () => {
  const id = await stage.start({ cutoverPolicy: 'MANUAL' })
  const first = stage.runner()
  const running = stage.drive(first, id)
  await eventually(async () => expect((await stage.store.read(id)).phase).toBe('READY_TO_CUT_OVER'))
  running.catch(() => {})
  await first.close()
  const ran: string[] = []
  const newer: PhaseLists = {
    2: list.map((phase) => ({ ...phase, do: async (context) => (ran.push(phase.name), phase.do(context)) })),
    3: [...list.slice(0, 6), ...list.slice(7)],
  }
  await stage.operations.cutOverMigration(operator, { idempotencyKey: 'cut', migrationId: id })
  expect(await stage.drive(stage.runner(newer), id)).toMatchObject({ state: 'COMPLETED', phaseListVersion: 2 })
  expect(ran[0]).toBe('READY_TO_CUT_OVER')
  await expectMoved(stage)
})

describe('a copy', () => {
  const key = (idempotencyKey: string, migrationId: string) => ({ idempotencyKey, migrationId })

  test('of a failed migration is kept, and a retry goes on from it', async () => {
    stage.health.status = 500
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', copyKept: true, attempt: 1 })
    await expectUndone(stage)
    stage.health.status = 200
    await stage.operations.retryMigration(operator, key('retry', id))
    expect(await stage.isLocked()).toBe(true)
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', copyKept: false, attempt: 2, errorCode: null })
    expect(stage.world.look().calls.filter((call) => call === 'west.instantiate')).toHaveLength(1)
    expect(stage.world.look().calls).toContain('west.discardOverlay')
    await expectMoved(stage)
  })

  test('of a cancelled migration is kept until it is discarded', async () => {
    const id = await stage.start({ cutoverPolicy: 'MANUAL' })
    const end = stage.drive(stage.runner(), id)
    await eventually(async () => expect((await stage.store.read(id)).phase).toBe('READY_TO_CUT_OVER'))
    await stage.operations.cancelMigration(operator, key('cancel', id))
    expect(await end).toMatchObject({ state: 'CANCELLED', copyKept: true })
    await expectUndone(stage)
    await stage.operations.discardMigration(operator, key('discard', id))
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'CANCELLED', copyKept: false, destinationVirtualMachineId: null })
    expect(stage.world.look().machines).toEqual({})
    await expect(stage.operations.discardMigration(operator, key('again', id))).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
  })

  test('whose cloud is not connected is not discarded, with what to do, until it is connected again', async () => {
    stage.health.status = 500
    const id = await stage.start()
    const failed = await stage.drive(stage.runner(), id)
    const setWest = (state: 'CONNECTED' | 'DISCONNECTED') =>
      stage.database.write((orm) => [orm.update(clouds).set({ state }).where(eq(clouds.id, 'west'))])
    await setWest('DISCONNECTED')
    await expect(stage.operations.discardMigration(operator, key('refused', id))).rejects.toMatchObject({
      code: 'NOT_ALLOWED_NOW',
      message: expect.stringMatching(/the cloud "west".* is not connected; nothing was changed/) as string,
      remedy: expect.stringMatching(/^Connect the cloud again under the name "west"/) as string,
      path: ['input', 'migrationId'],
    })
    expect(await stage.isLocked()).toBe(false)
    expect(await stage.store.read(id)).toEqual(failed)
    await setWest('CONNECTED')
    await stage.operations.discardMigration(operator, key('discard', id))
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', copyKept: false })
  })

  test('that somebody deleted meanwhile is made anew by a retry', async () => {
    stage.health.status = 500
    const id = await stage.start()
    await stage.drive(stage.runner(), id)
    stage.world.change('somebody deletes it', (state) => void (state.machines = {}))
    stage.health.status = 200
    await stage.operations.retryMigration(operator, key('retry', id))
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', attempt: 2 })
    await expectMoved(stage)
  })

  test('that was discarded is not said to be kept by a retry that fails before it has sent anything', async () => {
    stage.health.status = 500
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', copyKept: true })
    await stage.operations.discardMigration(operator, key('discard', id))
    await stage.drive(stage.runner(), id)
    hook = (call) => {
      if (call === 'east.install') throw broken()
    }
    await stage.operations.retryMigration(operator, key('retry', id))
    const ended = await stage.drive(stage.runner(), id)
    expect(ended).toMatchObject({ state: 'FAILED', attempt: 2, copyKept: false, destinationVirtualMachineId: null })
    expect(stage.world.look().machines).toEqual({})
  })

  test('stands in the way of another migration of the same machine, which says so', async () => {
    stage.health.status = 500
    const first = await stage.start()
    await stage.drive(stage.runner(), first)
    expect(await stage.drive(stage.runner(), await stage.start())).toMatchObject({ state: 'FAILED', errorCode: 'PRE_FLIGHT_FAILED' })
    expect(await stage.store.read(first)).toMatchObject({ copyKept: true })
  })
})

describe('a cancel', () => {
  test('is answered once nothing is copied any more', async () => {
    const id = await stage.start({ cutoverPolicy: 'MANUAL' })
    const end = stage.drive(stage.runner(), id)
    await eventually(async () => expect((await stage.store.read(id)).phase).toBe('READY_TO_CUT_OVER'))
    await stage.operations.cancelMigration(operator, { idempotencyKey: 'cancel', migrationId: id })
    expect((await stage.store.read(id)).state).toBe('CANCELLED')
    expect(Object.values(stage.world.look().machines).map(({ power }) => power)).toEqual(['STOPPED'])
    await end
  })
})

test('a thaw that waits for the kernel is asked for until it is done: nothing is frozen anew before', async () => {
  let thaws = 0
  hook = (call, when) => {
    if (when !== 'before') return
    if (call === 'SOURCE.root' && thaws === 0) throw new AgentError('AGENT_FAILED', 'The roots could not be read.', { retryable: true })
    if (call === 'SOURCE.thaw' && ++thaws < 3) throw new AgentError('TIMED_OUT', 'It did not answer thaw.', { retryable: true })
  }
  const id = await stage.start()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', switchover: 2 })
  const { calls } = stage.world.look()
  expect(thaws).toBe(3)
  expect(calls.filter((call) => ['SOURCE.freeze', 'SOURCE.thaw'].includes(call)).slice(0, 3)).toEqual([
    'SOURCE.freeze',
    'SOURCE.thaw',
    'SOURCE.freeze',
  ])
  const events = await stage.database.select().from(migrationEvents).where(eq(migrationEvents.migrationId, id))
  expect(events.filter(({ message }) => message.includes('its watchdog does so'))).toEqual([])
  await expectMoved(stage)
})

test.each([
  ['is away for a moment', 'COMPLETED', new DrizzleQueryError('update migrations', [], new TypeError('fetch failed'))],
  ['is full for a moment', 'COMPLETED', new LibsqlError('database or disk is full', 'SQLITE_FULL')],
  ['refuses what is wrong in itself', 'FAILED', new LibsqlError('NOT NULL constraint failed', 'SQLITE_CONSTRAINT_NOTNULL')],
])('a database that %s while rounds run leaves the migration %s', async (_, state, fault) => {
  let failures = 0
  hook = (call, when) => {
    if (call === 'SOURCE.round.run' && when === 'after' && failures === 0) failures = 1
  }
  const { write } = stage.store
  stage.store.write = (...asked) => (failures === 1 && failures++ ? Promise.reject(fault) : write(...asked))
  const runner = stage.runner()
  const id = await stage.start()
  // As the engine does.
  await expect.poll(async () => (await stage.drive(runner, id).catch(() => null))?.state, { timeout: 20_000 }).toBe(state)
  expect(failures).toBe(2)
})

test('a database that fails in the freeze does not hold the source: it is thawed within its lease, and moves in another switchover once that is back', async () => {
  let away = false
  hook = (call, when) => {
    if (call === 'SOURCE.freeze' && when === 'after' && stage.world.look().calls.filter((made) => made === call).length === 1) away = true
  }
  const { write } = stage.store
  stage.store.write = (...asked) => (away ? Promise.reject(new Error('The disk is full.')) : write(...asked))
  const runner = stage.runner()
  const id = await stage.start()
  await expect(stage.drive(runner, id)).rejects.toThrow('The disk is full.')
  // The engine asks again and again.
  await expect
    .poll(
      async () => {
        await runner.advance(id).catch(() => {})
        stage.world.change('time goes by', () => {})
        return stage.world.look().source.freeze?.void
      },
      { timeout: 8_000 },
    )
    .toBe(true)
  away = false
  expect(await stage.drive(runner, id)).toMatchObject({ state: 'COMPLETED', voidedSwitchovers: 0 })
  await expectMoved(stage)
})

describe('a source that loses its power', () => {
  const losePower = () =>
    stage.world.change('power loss', ({ source }) => void Object.assign(source, { power: 'STOPPED', agentInstance: null, freeze: null }))
  /** `startsAgain` is asked at each call from then on, until it has started. Returns how often its agent was asked for since that, before it was there. */
  function losesPowerAtTheRoots(startsAgain: (call: string, when: string) => boolean): () => number {
    let [lost, started, inVain] = [false, false, 0]
    hook = (call, when) => {
      if (call === 'SOURCE.root' && when === 'before' && !lost) {
        lost = true
        losePower()
      } else if (lost && !started) started = startsAgain(call, when)
      if (call === 'SOURCE.agent' && started && stage.world.look().source.agentInstance === null) inVain++
    }
    return () => inVain
  }

  test('while it is frozen is started again by nobody but us, and moves in another switchover', async () => {
    let lost = false
    hook = (call, when) => {
      if (call !== 'SOURCE.root' || when !== 'before' || lost) return
      lost = true
      losePower()
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
    expect(stage.world.look().calls).toContain('east.start')
    await expectMoved(stage)
  })

  test('has its agent installed again at once after that, also by a control plane that has not seen it off', async () => {
    const first = stage.runner()
    const asked = losesPowerAtTheRoots((call, when) => {
      if (call !== 'east.start' || when !== 'after') return false
      void first.close()
      return true
    })
    const id = await stage.start()
    await expect(stage.drive(first, id)).rejects.toThrow('The control plane is ending')
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', switchover: 2 })
    expect(asked()).toBe(0)
    expect(stage.world.look().calls.filter((call) => call === 'east.install')).toHaveLength(2)
    await expectMoved(stage)
  })

  test('where nothing fences it, and is started by its owner as soon as it was seen off, has its agent installed again at once, too', async () => {
    const asked = losesPowerAtTheRoots((call, when) => {
      if (call !== 'east.describe' || when !== 'after') return false
      stage.world.change('power', ({ source }) => void (source.power = 'RUNNING'))
      return true
    })
    const unfenced = stage.runner({ ...phaseLists, 2: phaseLists[1]! })
    expect(await stage.drive(unfenced, await stage.start())).toMatchObject({ state: 'COMPLETED', switchover: 2 })
    expect(asked()).toBe(0)
    await expectMoved(stage)
  })

  test('in the middle of the freeze is started again at once: nothing in it answers, or has to be thawed', async () => {
    const silence = new Promise<void>(() => {})
    let lost = false
    hook = (call, when) => {
      if (call !== 'SOURCE.freeze' || when !== 'before' || lost) return
      lost = true
      losePower()
      return silence
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', switchover: 2 })
    const events = await stage.database.select().from(migrationEvents).where(eq(migrationEvents.migrationId, id))
    const messages = events.map(({ message }) => message)
    expect(messages.filter((message) => message.includes('thaw'))).toEqual([])
    expect(messages).toContainEqual(expect.stringContaining('void: The source virtual machine is off'))
    await expectMoved(stage)
  })

  test('once it is suspended does not keep its copy from taking over', async () => {
    hook = (call, when) => {
      if (call === 'west.boot' && when === 'before') losePower()
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', switchover: 1 })
    await expectMoved(stage)
  })

  test('and is resumed by somebody else at the worst moment, once it is fenced, stays as it was', async () => {
    let resumed = false
    hook = async (call, when) => {
      if (call !== 'west.seal' || when !== 'before' || resumed) return
      resumed = true
      // Somebody at the provider's console: the fence refuses it.
      stage.world.change('somebody resumes', ({ source }) => void (source.fence?.closed || (source.power = 'RUNNING')))
    }
    expect(await stage.drive(stage.runner(), await stage.start())).toMatchObject({ state: 'COMPLETED', switchover: 1 })
    expect(resumed).toBe(true)
    await expectMoved(stage)
  })

  test.each(['UNREACHABLE', 'TIMED_OUT'] as const)(
    'with its whole site (%s), once it is suspended, does not keep its copy from taking over',
    async (code) => {
      let gone = false
      hook = (call) => {
        if (call === 'west.boot') gone = true
        if (call === 'west.expose') gone = false
        if (gone && call.startsWith('east.')) throw new ProviderError(code, 'No answer.', { retryable: true, remedy: 'Wait.' })
      }
      const id = await stage.start()
      expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', switchover: 1 })
      await expectMoved(stage)
    },
  )
})

test('a source whose site takes a call, once it is suspended, and answers nothing, does not keep its copy from taking over', async () => {
  let booted = false
  let hung = false
  hook = async (call) => {
    booted ||= call === 'west.boot'
    if (!booted || hung || call !== 'east.confirm') return
    hung = true
    await new Promise(() => {})
  }
  const id = await stage.start()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', switchover: 1 })
  expect(hung).toBe(true)
  await expectMoved(stage)
})

test.each(['UNREACHABLE', 'TIMED_OUT'] as const)(
  'a source that is dead for good (%s) keeps its migration waiting, visibly, until an administrator attests it',
  async (code) => {
    sourceGoesSilentAtTheFreeze(code)
    const id = await stage.start()
    const end = stage.drive(stage.runner(), id)
    await eventually(async () => expect((await stage.store.read(id)).problem).toMatch(/tried again: No answer/))
    stage.attested.dead = true
    await stage.operations.cancelMigration(operator, { idempotencyKey: 'cancel', migrationId: id })
    expect(await end).toMatchObject({ state: 'CANCELLED', copyKept: true })
    expect(stage.world.look().source.fence).not.toBe(null)
  },
)

describe('a source whose site answers that there is no such machine', () => {
  let gone: boolean
  beforeEach(() => {
    gone = false
  })
  const notFound = (call: string) => {
    if (gone && call.startsWith('east.')) throw new ProviderError('NOT_FOUND', 'No such machine.', { retryable: false, remedy: 'None.' })
  }

  test('keeps the way back waiting, visibly, until an administrator attests it', async () => {
    hook = (call) => {
      notFound(call)
      if (call !== 'west.boot') return
      gone = true
      throw broken()
    }
    const id = await stage.start()
    const end = stage.drive(stage.runner(), id)
    await eventually(async () =>
      expect((await stage.store.read(id)).problem).toMatch(/^Undoing SUSPEND_SOURCE .* tried again: No such machine/),
    )
    stage.attested.dead = true
    expect(await end).toMatchObject({ state: 'FAILED', errorMessage: 'It broke.', copyKept: true })
  })

  test('keeps a committed migration waiting, visibly, until an administrator attests it', async () => {
    hook = (call) => {
      notFound(call)
      if (call === 'west.expose') gone = true
    }
    const id = await stage.start()
    const end = stage.drive(stage.runner(), id)
    await eventually(async () =>
      expect(await stage.store.read(id)).toMatchObject({ phase: 'RETIRE_SOURCE', problem: expect.stringMatching(/^No such machine/) }),
    )
    stage.attested.dead = true
    expect(await end).toMatchObject({ state: 'COMPLETED' })
  })
})

test('a source that is attested dead in a switchover that is void ends its migration: no round waits for it', async () => {
  sourceGoesSilentAtTheFreeze()
  stage.attested.dead = true
  const id = await stage.start()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({
    state: 'FAILED',
    switchover: 1,
    copyKept: true,
    errorMessage: "The source can't be reached or is gone, and was attested dead, so the migration is undone.",
  })
  expect(stage.world.look().source.fence).not.toBe(null)
  const messages = (await stage.database.select().from(migrationEvents).where(eq(migrationEvents.migrationId, id))).map(
    ({ message }) => message,
  )
  expect(messages.some((message) => message.startsWith('This switchover is void'))).toBe(true)
  expect(messages.at(-1)).toMatch(/^The migration is FAILED: what becomes of the source, which was attested dead, its verdict says/)
})

test('a source that was attested dead, and returns in the midst of the way back, is resumed though the undo of its suspension was given up', async () => {
  stage.health.status = 503
  stage.attested.dead = true
  let gone = false
  hook = (call) => {
    if (call === 'west.boot') gone = true
    if (gone && call.startsWith('east.')) throw new ProviderError('UNREACHABLE', 'No answer.', { retryable: true, remedy: 'Wait.' })
  }
  const lists = changed('SUSPEND_SOURCE', (phase) => ({
    undo: async (context) => {
      try {
        return await phase.undo!(context)
      } finally {
        gone = false
      }
    },
  }))
  const id = await stage.start()
  expect(await stage.drive(stage.runner(lists), id)).toMatchObject({ state: 'FAILED' })
  const messages = (await stage.database.select().from(migrationEvents).where(eq(migrationEvents.migrationId, id))).map(
    ({ message }) => message,
  )
  expect(messages).toContainEqual(expect.stringMatching(/^SUSPEND_SOURCE is left as it is at the source/))
  await expectUndone(stage)
})

test.each(['SUSPENDED', 'STOPPED'] as const)(
  'a source that its owner made %s before its fence was armed is left so by the way back',
  async (power) => {
    const id = await stage.start()
    hook = (call, when) => {
      if (call !== 'east.arm' || when !== 'before') return
      stage.world.change("its owner's doing", ({ source }) => void (source.power = power))
      throw broken()
    }
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', errorMessage: 'It broke.' })
    expect(stage.world.look().source).toMatchObject({ power, fence: null })
  },
)

test('a source that its owner switches off before the fence of a second switchover is armed is left off by the way back, whatever the first one had armed', async () => {
  let [written, asked] = [false, 0]
  hook = (call, when) => {
    if (when !== 'before') return
    if (call === 'SOURCE.root' && !written) {
      written = true
      stage.world.change('write', (state) => void state.content++)
    }
    if (call === 'SOURCE.hook.run' && ++asked === 2)
      stage.world.change("its owner's doing", ({ source }) => void Object.assign(source, { power: 'STOPPED', agentInstance: null }))
  }
  const action = { kind: 'COMMAND' as const, command: ['0'] }
  const id = await stage.start({
    hooks: [{ name: 'ask', phase: 'ARM_FENCE', when: 'BEFORE', timeoutMs: 2_000, retries: 0, onFailure: 'FAIL', action }],
  })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', errorCode: 'HOOK_FAILED', switchover: 2 })
  expect(stage.world.look().source).toMatchObject({ power: 'STOPPED', fence: null })
})

test('a source that lost its power once its fence was armed, though nobody could write that down, is started again by the way back', async () => {
  const id = await stage.start()
  hook = (call, when) => {
    if (call !== 'east.arm' || when !== 'after') return
    stage.world.change('power', ({ source }) => void (source.power = 'STOPPED'))
    throw broken()
  }
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', errorMessage: 'It broke.' })
  expect(stage.world.look().source).toMatchObject({ power: 'RUNNING', fence: null })
})

test('a source that was attested dead, and returns with its fence armed, moves in a retry that is sent before anything has released it', async () => {
  sourceGoesSilentAtTheFreeze()
  stage.attested.dead = true
  const id = await stage.start()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', attempt: 1 })
  expect(stage.world.look().source).toMatchObject({ power: 'RUNNING', fence: { id: `${id}.1.1` } })
  hook = () => {}
  stage.attested.dead = false
  await stage.operations.retryMigration(operator, { idempotencyKey: 'retry', migrationId: id })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', attempt: 2 })
  expect(stage.world.look().source.fence?.id).toMatch(new RegExp(`^${id}.2.`))
  await expectMoved(stage)
})

test('a source under the fence of another migration is refused before anything is made at the destination', async () => {
  const fence = { id: 'another.1.1', closed: false }
  stage.world.change('left over', ({ source }) => void (source.fence = fence))
  const id = await stage.start()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({
    state: 'FAILED',
    errorCode: 'PRE_FLIGHT_FAILED',
    errorMessage: expect.stringContaining('is under the fence another.1.1 of another migration'),
    findings: [expect.objectContaining({ code: 'FENCE_OF_ANOTHER_MIGRATION', severity: 'BLOCKER' })],
  })
  expect(stage.world.look()).toMatchObject({ machines: {}, records: {}, source: { power: 'RUNNING', fence } })
})

test('a destination that loses its power after the commit is started again, from its own disk', async () => {
  let losses = 0
  hook = (call, when) => {
    if (call === 'west.expose' && when === 'after' && losses++ < 2) {
      stage.world.change('power loss', ({ machines }) => Object.values(machines).forEach((machine) => (machine.power = 'STOPPED')))
      if (losses === 1) throw broken()
    }
  }
  expect(await stage.drive(stage.runner(), await stage.start())).toMatchObject({ state: 'COMPLETED' })
  expect(losses).toBe(2)
  await expectMoved(stage)
})

describe('a destination that its hypervisor holds, since a write found no room,', () => {
  const hold = () =>
    stage.world.change('no room', ({ machines }) => Object.values(machines).forEach((machine) => (machine.power = 'SUSPENDED')))

  test.each(['west.expose', 'west.flatten'])('by the end of %s goes on', async (moment) => {
    hook = (call, when) => void (call === moment && when === 'after' && hold())
    expect(await stage.drive(stage.runner(), await stage.start())).toMatchObject({ state: 'COMPLETED' })
    expect(stage.world.look().calls).toContain('west.resume')
    await expectMoved(stage)
  })

  test('is not recorded as complete until it runs', async () => {
    let full = true
    hook = (call, when) => void (full && (call === 'west.expose' || call === 'west.resume') && when === 'after' && hold())
    const id = await stage.start()
    const end = stage.drive(stage.runner(), id)
    await eventually(async () => expect((await stage.store.read(id)).problem).toMatch(/is SUSPENDED: it does not run on/))
    expect(Object.keys(stage.world.look().records).filter((key) => key.endsWith('.completed'))).toEqual([])
    full = false
    expect(await end).toMatchObject({ state: 'COMPLETED' })
    await expectMoved(stage)
  })
})

test('a destination that its owner deletes while its overlay is merged ends the migration, which says so, and can be rolled back', async () => {
  hook = (call) => {
    if (call === 'west.flatten') stage.world.change('deleted by its owner', (state) => void (state.machines = {}))
  }
  const id = await stage.start()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', problem: null })
  const said = await stage.database.select().from(migrationEvents).where(eq(migrationEvents.migrationId, id))
  expect(said.map(({ message }) => message)).toContainEqual(expect.stringContaining('was deleted at the destination'))
  await stage.operations.rollbackMigration(operator, { idempotencyKey: 'back', migrationId: id })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK' })
  expect(stage.world.look().source).toMatchObject({ power: 'RUNNING' })
})

test("a destination's agent that is killed once it had received the copy prepares the guest all the same", async () => {
  hook = (call, when) => void (call === 'west.seal' && when === 'after' && stage.restartDestinationAgent())
  expect(await stage.drive(stage.runner(), await stage.start())).toMatchObject({ state: 'COMPLETED', switchover: 1 })
  await expectMoved(stage)
})

test.each([
  ['is fitted up', 'west.seal'],
  ['has its health checked', 'west.boot'],
])(
  'a destination that goes off before it %s is not waited for while the source stands still: the source goes on, and the copy is kept',
  async (_, moment) => {
    hook = (call, when) => {
      if (call !== moment || when !== 'after') return
      stage.health.status = 503
      stage.world.change('power loss', ({ machines }) => Object.values(machines).forEach((machine) => (machine.power = 'STOPPED')))
    }
    const ended = await stage.drive(stage.runner(), await stage.start())
    expect(ended).toMatchObject({ state: 'FAILED', copyKept: true, errorMessage: expect.stringContaining('went off') })
    expect(stage.world.look().source.power).toBe('RUNNING')
  },
)

test('a migration that begins under a clock that was set back is later than the one before it all the same', async () => {
  const before = { migrationId: 'before', attempt: 1, uniqueId: sourceUniqueId, vmId: sourceMachineId }
  const key = 'migration.before.1.started'
  const record = { key, writtenAt: '2126-01-01T00:00:00.000Z', content: before }
  stage.world.change('moved here before', ({ records }) => void (records[key] = record))
  const id = await stage.start()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
  expect(stage.world.look().records[`migration.${id}.1.started`]?.writtenAt).toBe('2126-01-01T00:00:00.001Z')
})

test('a migration whose row was lost with the database ends without a word', async () => {
  expect(await stage.runner().advance('of-a-database-that-is-gone')).toBe(null)
})

describe('a rollback', () => {
  const key = (idempotencyKey: string, migrationId: string) => ({ idempotencyKey, migrationId })
  const rollback = phaseLists[1001]!

  async function expectBack(): Promise<void> {
    const { source, machines, records, violations } = stage.world.look()
    expect(violations).toEqual([])
    expect(source).toMatchObject({ power: 'RUNNING', fence: null })
    expect(Object.values(machines)).toEqual([expect.objectContaining({ power: 'STOPPED' })])
    expect(Object.keys(records).some((name) => name.endsWith('.rolled-back'))).toBe(true)
    expect(await stage.isLocked()).toBe(false)
  }

  test('stops the destination first, then starts the source', async () => {
    const id = await stage.start()
    await stage.drive(stage.runner(), id)
    await stage.operations.rollbackMigration(operator, key('back', id))
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK', copyKept: true })
    await expectBack()
    const { calls } = stage.world.look()
    // A database that is lost while the guest shuts down leaves a destination that is off: its fence says why.
    const inOrder = ['west.arm', 'west.stop', 'west.fence', 'east.release', 'east.start']
    expect(calls.slice(calls.indexOf('west.arm')).filter((call) => inOrder.includes(call))).toEqual([
      'west.arm',
      'west.stop',
      'west.fence',
      'west.stop',
      'east.release',
      'east.start',
    ])
    await stage.operations.discardMigration(operator, key('discard', id))
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK', copyKept: false })
    expect(stage.world.look().machines).toEqual({})
  })

  test.each(rollback.map(({ name }) => name))('goes on after a crash at the end of %s', async (name) => {
    const id = await stage.start()
    await stage.drive(stage.runner(), id)
    await stage.operations.rollbackMigration(operator, key('back', id))
    const lists: PhaseLists = {
      ...phaseLists,
      1001: rollback.map((phase) =>
        phase.name === name
          ? {
              ...phase,
              do: async (context) => {
                await phase.do(context)
                void first.close()
                throw new Error('crashed')
              },
            }
          : phase,
      ),
    }
    const first: PhaseRunner = stage.runner(lists)
    await expect(stage.drive(first, id)).rejects.toThrow()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK' })
    await expectBack()
  })

  test('starts the source again where it loses its power before that was stored', async () => {
    const id = await stage.start()
    await stage.drive(stage.runner(), id)
    let losses = 0
    hook = (call, when) => {
      if (call !== 'east.start' || when !== 'after' || losses++ > 0) return
      stage.world.change('power loss', ({ source }) => void (source.power = 'STOPPED'))
      throw broken()
    }
    await stage.operations.rollbackMigration(operator, key('back', id))
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK' })
    expect(losses).toBe(2)
    await expectBack()
  })

  test('is refused for one that never left its source', async () => {
    stage.health.status = 500
    const id = await stage.start()
    await stage.drive(stage.runner(), id)
    await expect(stage.operations.rollbackMigration(operator, key('back', id))).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
  })
})

describe('a test boot', () => {
  const key = (idempotencyKey: string, migrationId: string) => ({ idempotencyKey, migrationId })

  async function held(lists?: PhaseLists): Promise<{ id: string; runner: PhaseRunner; end: ReturnType<MigrationStage['drive']> }> {
    const id = await stage.start({ cutoverPolicy: 'MANUAL' })
    const runner = stage.runner(lists)
    const end = stage.drive(runner, id)
    end.catch(() => {})
    await eventually(async () => expect((await stage.store.read(id)).phase).toBe('READY_TO_CUT_OVER'))
    return { id, runner, end }
  }
  const ended = (id: string, state: string) => eventually(async () => expect((await stage.testsOf(id))[0]).toMatchObject({ state }))

  test('passes while the source runs and syncing goes on, and leaves nothing', async () => {
    const { id, end } = await held()
    await stage.operations.testMigration(operator, key('test', id))
    await ended(id, 'PASSED')
    expect((await stage.testsOf(id))[0]).toMatchObject({ console: 'login:', problem: null, frozenMs: expect.any(Number) as number })
    expect(Object.keys(stage.world.look().machines)).toHaveLength(1)
    expect(stage.world.look().source).toMatchObject({ power: 'RUNNING', freeze: null })
    await stage.operations.cutOverMigration(operator, key('cut', id))
    expect(await end).toMatchObject({ state: 'COMPLETED' })
    await expectMoved(stage)
  })

  test('that fails its health check says so, and the migration goes on', async () => {
    const { id, end } = await held()
    stage.health.status = 500
    await stage.operations.testMigration(operator, key('test', id))
    await ended(id, 'FAILED')
    expect((await stage.testsOf(id))[0]?.problem).toMatch(/health check/)
    stage.health.status = 200
    await stage.operations.cutOverMigration(operator, key('cut', id))
    expect(await end).toMatchObject({ state: 'COMPLETED' })
    await expectMoved(stage)
  })

  test('that is under way is ended by the cutover, and by a cancel', async () => {
    stage.health.status = 500
    for (const way of ['cutOverMigration', 'cancelMigration'] as const) {
      const { id, end } = await held()
      await stage.operations.testMigration(operator, key(`test-${way}`, id))
      await eventually(() => expect(Object.keys(stage.world.look().machines)).toHaveLength(2))
      await stage.operations[way](operator, key(way, id))
      await end
      expect((await stage.testsOf(id))[0]).toMatchObject({ state: 'FAILED' })
      expect(Object.keys(stage.world.look().machines).filter((name) => name.startsWith('test-'))).toEqual([])
      if (way === 'cutOverMigration') {
        await stage.operations.discardMigration(operator, key('discard', id))
        await stage.drive(stage.runner(), id)
      }
    }
  })

  test('that a restart of the control plane cut short is removed, and said to have failed', async () => {
    const { id, runner, end } = await held()
    stage.health.status = 500
    await stage.operations.testMigration(operator, key('test', id))
    await eventually(() => expect(Object.keys(stage.world.look().machines)).toHaveLength(2))
    await runner.close()
    await expect(end).rejects.toThrow()
    const second = stage.drive(stage.runner(), id)
    await ended(id, 'FAILED')
    expect(Object.keys(stage.world.look().machines)).toHaveLength(1)
    stage.health.status = 200
    await stage.operations.cutOverMigration(operator, key('cut', id))
    expect(await second).toMatchObject({ state: 'COMPLETED' })
  })

  test('is refused before there is a whole copy, and a second one while one is under way', async () => {
    const id = await stage.start({ cutoverPolicy: 'MANUAL' })
    await expect(stage.operations.testMigration(operator, key('early', id))).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
    stage.health.status = 500
    const end = stage.drive(stage.runner(), id)
    await eventually(async () => expect((await stage.store.read(id)).phase).toBe('READY_TO_CUT_OVER'))
    await stage.operations.testMigration(operator, key('first', id))
    await expect(stage.operations.testMigration(operator, key('second', id))).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
    await stage.operations.cancelMigration(operator, key('cancel', id))
    await end
  })
})
