/** Groups on the real engine: order of cutovers, limits, failures, and what operators may do. The phases of the migrations only say what they do. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { PortolanError } from '../../src/domain/errors.ts'
import type { MemberState } from '../../src/domain/migration-group.ts'
import type { Workflows } from '../../src/workflows/create-workflows.ts'
import { readGroup } from '../../src/workflows/group-facts.ts'
import type { NewGroup } from '../../src/workflows/operations.ts'
import { wait } from '../../src/workflows/wait.ts'
import { randomNumbers } from '../support/random-numbers.ts'
import { hostCount, member, openControlPlane, storeMachines, temporaryDatabase, type Script } from './support/group-stage.ts'
import { operator } from './support/migration-settings-for-tests.ts'

let stage: Awaited<ReturnType<typeof temporaryDatabase>>
let workflows: Workflows
let script: Script
const machines = 12
/** In order: which machine began to copy, ended its copy, cut over. */
let told: string[]
let failing: Set<number>
/** How long each machine's copy takes, in milliseconds. */
let copyMs: number[]
let held: Set<number>
let copying: Set<number>
let mostCopying: number
let mostOnOneHost: number
let keys = 0

beforeEach(async () => {
  stage = await temporaryDatabase()
  await storeMachines(stage.database, machines)
  told = []
  failing = new Set()
  copyMs = Array.from({ length: machines }, () => 10)
  held = new Set()
  copying = new Set()
  mostCopying = mostOnOneHost = 0
  script = {
    async copy(machine, { signal, migration }) {
      copying.add(machine)
      mostCopying = Math.max(mostCopying, copying.size)
      const neighbours = [...copying].filter((other) => other % hostCount === machine % hostCount)
      mostOnOneHost = Math.max(mostOnOneHost, neighbours.length)
      told.push(`copy ${machine}`)
      try {
        do await wait(copyMs[machine]!, signal)
        while (held.has(machine))
        if (failing.has(machine))
          throw new PortolanError('NOT_CONVERGING', `Machine ${machine} fails ${migration.id}.`, { retryable: false, remedy: 'None.' })
      } finally {
        copying.delete(machine)
      }
    },
    async cutOver(machine) {
      told.push(`cut over ${machine}`)
    },
  }
  workflows = await openControlPlane(stage.database, stage.directory, script)
})
afterEach(async () => {
  await workflows.close()
  await stage.remove()
})

const key = () => ({ idempotencyKey: `key-${keys++}` })

async function begin(group: Partial<NewGroup> & Pick<NewGroup, 'members'>): Promise<string> {
  const { operations } = workflows
  const { migrationGroupId } = await operations.createMigrationGroup(operator, {
    name: 'wave',
    cutoverPolicy: 'AUTOMATIC',
    ...group,
    ...key(),
  })
  await operations.startMigrationGroup(operator, { migrationGroupId, ...key() })
  return migrationGroupId
}

const read = async (id: string) => (await readGroup(stage.database, id))!
async function until(id: string, holds: (found: Awaited<ReturnType<typeof read>>) => boolean) {
  for (;;) {
    const found = await read(id)
    if (holds(found)) return found
    await wait(10, AbortSignal.timeout(60_000))
  }
}
const ended = (id: string) => until(id, ({ group }) => group.endedAt !== null)
const statesOf = ({ members }: Awaited<ReturnType<typeof read>>) =>
  Object.fromEntries(members.map(({ name, state }) => [name, state])) as Record<string, MemberState>
const inState = (name: string, state: MemberState) => (found: Awaited<ReturnType<typeof read>>) => statesOf(found)[name] === state

test(
  'in any graph members cut over after all that they depend on, within the limits, and a failure stops exactly those that depend on it',
  { timeout: 180_000 },
  async () => {
    const random = randomNumbers()
    // Those that others depend on are often the last to be copied.
    copyMs = copyMs.map(() => random.of([10, 500]))
    const limits = { CLOUD: 3 + random.below(4), HOST: 2 + random.below(2) }
    await workflows.operations.setConcurrencyLimits(operator, {
      limits: [
        { scope: 'CLOUD', subject: 'east', limit: limits.CLOUD },
        { scope: 'HOST', subject: null, limit: limits.HOST },
      ],
      ...key(),
    })
    const indexes = Array.from({ length: machines }, (_, index) => index)
    const dependsOn = indexes.map((index) => indexes.slice(0, index).filter(() => random.below(4) === 0))
    const failed = random.below(machines)
    failing.add(failed)
    const doomed = new Set<number>([failed])
    for (const index of indexes) if (dependsOn[index]!.some((other) => doomed.has(other))) doomed.add(index)

    const found = await ended(await begin({ members: random.shuffled(indexes).map((index) => member(index, dependsOn[index])) }))

    const seed = `seed ${random.seed}`
    for (const index of indexes) {
      const expected = index === failed ? 'FAILED' : doomed.has(index) ? 'STOPPED_BY_DEPENDENCY' : 'COMPLETED'
      expect(statesOf(found)[`m${index}`], `m${index}, ${seed}`).toBe(expected)
      expect(
        told.filter((line) => line === `cut over ${index}`),
        `once, ${seed}`,
      ).toHaveLength(doomed.has(index) ? 0 : 1)
      if (doomed.has(index)) continue
      for (const other of dependsOn[index]!)
        expect(told.indexOf(`cut over ${other}`), `${other} before ${index}, ${seed}`).toBeLessThan(told.indexOf(`cut over ${index}`))
    }
    expect(found.group.state).toBe('FAILED')
    expect(mostCopying, seed).toBeLessThanOrEqual(limits.CLOUD)
    expect(mostOnOneHost, seed).toBeLessThanOrEqual(limits.HOST)
  },
)

test('a dependant copies while the other still does, says what it waits for, and follows at once', async () => {
  held.add(0)
  const id = await begin({ members: [member(1, [0]), member(0)] })
  const waiting = await until(id, inState('m1', 'WAITING_FOR_DEPENDENCY'))
  expect(statesOf(waiting)).toMatchObject({ m0: 'RUNNING' })
  expect(waiting.members.find(({ name }) => name === 'm1')).toMatchObject({ awaits: ['m0'] })
  held.clear()
  expect((await ended(id)).group.state).toBe('COMPLETED')
  expect(told.filter((line) => line.startsWith('cut'))).toEqual(['cut over 0', 'cut over 1'])
})

test('those that wait for a dependency hold no slot that it may need', async () => {
  await workflows.operations.setConcurrencyLimits(operator, { limits: [{ scope: 'CLOUD', subject: null, limit: 1 }], ...key() })
  // The dependency comes last in the queue.
  const dependant = await begin({ members: [member(1, [0]), member(0)] })
  expect((await ended(dependant)).group.state).toBe('COMPLETED')
  expect(mostCopying).toBe(1)
})

test('MANUAL waits for the word, one said to a single member included, and a set time is kept', async () => {
  const id = await begin({ cutoverPolicy: 'MANUAL', members: [member(0), member(1), member(2, [1])] })
  const ready = await until(id, inState('m1', 'READY_TO_CUT_OVER'))
  const first = ready.members.find(({ name }) => name === 'm0')!.migrationId!
  await workflows.operations.cutOverMigration(operator, { migrationId: first, ...key() })
  await until(id, inState('m0', 'COMPLETED'))
  const at = new Date(Date.now() + 700)
  await workflows.operations.cutOverMigrationGroup(operator, { migrationGroupId: id, at, ...key() })
  expect(statesOf(await read(id))).toMatchObject({ m1: 'READY_TO_CUT_OVER', m2: expect.stringMatching(/WAITING|RUNNING/) })
  expect((await ended(id)).group.state).toBe('COMPLETED')
  expect(told.filter((line) => line.startsWith('cut'))).toEqual(['cut over 0', 'cut over 1', 'cut over 2'])
  expect(Date.now()).toBeGreaterThanOrEqual(at.getTime())
})

test('pause, resume and cancel reach all members, and what was completed stays', async () => {
  held.add(1)
  held.add(2)
  const id = await begin({ members: [member(0), member(1), member(2), member(3, [2])] })
  await until(id, inState('m0', 'COMPLETED'))
  await until(id, inState('m3', 'WAITING_FOR_DEPENDENCY'))
  await workflows.operations.pauseMigrationGroup(operator, { migrationGroupId: id, ...key() })
  const paused = await until(id, ({ group }) => group.state === 'PAUSED')
  expect(paused.group.desired).toBe('PAUSE')
  await until(id, inState('m3', 'PAUSED'))
  await workflows.operations.resumeMigrationGroup(operator, { migrationGroupId: id, ...key() })
  await until(id, ({ group }) => group.state === 'RUNNING')
  await until(id, inState('m3', 'WAITING_FOR_DEPENDENCY'))
  await workflows.operations.cancelMigrationGroup(operator, { migrationGroupId: id, ...key() })
  const end = await ended(id)
  expect(end.group.state).toBe('CANCELLED')
  expect(statesOf(end)).toEqual({ m0: 'COMPLETED', m1: 'CANCELLED', m2: 'CANCELLED', m3: 'STOPPED_BY_DEPENDENCY' })
  await expect(workflows.operations.pauseMigrationGroup(operator, { migrationGroupId: id, ...key() })).rejects.toMatchObject({
    code: 'NOT_ALLOWED_NOW',
  })
})

test('a member whose machine is being moved already waits for that to end, and the others go on', async () => {
  held.add(0)
  const other = await workflows.operations.startMigration(operator, { ...member(0).request, ...key() })
  const id = await begin({ members: [member(0), member(1), member(2, [0])] })
  const { members } = await until(id, inState('m1', 'COMPLETED'))
  expect(members[0]).toMatchObject({ refusalCode: 'ALREADY_MIGRATING', refusalMessage: expect.stringContaining(other.migrationId) })
  await workflows.operations.cancelMigration(operator, { ...other, ...key() })
  held.clear()
  expect(statesOf(await ended(id))).toEqual({ m0: 'COMPLETED', m1: 'COMPLETED', m2: 'COMPLETED' })
})

describe('a member that is retried after the end', () => {
  const migrationOf = async (id: string, name: string) => (await read(id)).members.find((one) => one.name === name)!.migrationId!
  const retry = async (id: string, name: string) =>
    workflows.operations.retryMigration(operator, { migrationId: await migrationOf(id, name), ...key() })

  test('has its group run again, which ends anew each time', async () => {
    failing.add(0)
    const id = await begin({ members: [member(0), member(1, [0]), member(2)] })
    expect((await ended(id)).group.state).toBe('FAILED')
    failing.clear()

    held.add(0)
    await retry(id, 'm0')
    expect(await until(id, inState('m0', 'RUNNING'))).toMatchObject({ group: { state: 'RUNNING', endedAt: null } })
    held.clear()
    const second = await ended(id)
    expect(second.group.state).toBe('FAILED')
    expect(statesOf(second)).toEqual({ m0: 'COMPLETED', m1: 'CANCELLED', m2: 'COMPLETED' })

    await retry(id, 'm1')
    const third = await ended(id)
    expect(third.group.state).toBe('COMPLETED')
    expect(told.filter((line) => line.startsWith('cut')).toSorted()).toEqual(['cut over 0', 'cut over 1', 'cut over 2'])
  })

  test('can be steered with its group, and is looked after by the next control plane', async () => {
    failing.add(0)
    const id = await begin({ members: [member(0)] })
    await ended(id)
    failing.clear()
    held.add(0)
    await retry(id, 'm0')
    await until(id, inState('m0', 'RUNNING'))
    await workflows.close()
    workflows = await openControlPlane(stage.database, stage.directory, script)
    await workflows.operations.cancelMigrationGroup(operator, { migrationGroupId: id, ...key() })
    expect((await ended(id)).group.state).toBe('CANCELLED')
  })

  test('leaves a group that was cancelled as it is', async () => {
    held.add(0)
    const id = await begin({ members: [member(0), member(1)] })
    await until(id, inState('m1', 'COMPLETED'))
    await workflows.operations.cancelMigrationGroup(operator, { migrationGroupId: id, ...key() })
    const { endedAt } = (await ended(id)).group
    held.clear()
    await retry(id, 'm0')
    expect((await until(id, inState('m0', 'COMPLETED'))).group).toMatchObject({ state: 'CANCELLED', endedAt })
  })
})

test('a request that is repeated at another control plane on this database starts nothing there', async () => {
  const elsewhere = await mkdtemp(join(tmpdir(), 'portolan-group-'))
  const toldElsewhere: string[] = []
  const other = await openControlPlane(stage.database, elsewhere, {
    copy: async (machine) => void toldElsewhere.push(`copy ${machine}`),
    cutOver: async (machine) => void toldElsewhere.push(`cut over ${machine}`),
  })
  try {
    failing.add(0)
    const id = await begin({ members: [member(0)] })
    const migrationId = (await ended(id)).members[0]!.migrationId!
    failing.clear()
    held.add(0)
    const retry = { migrationId, ...key() }
    await workflows.operations.retryMigration(operator, retry)
    await until(id, () => told.length === 2)
    // Its answer was lost, and a balancer sends the same request there.
    expect(await other.operations.retryMigration(operator, retry)).toEqual({ migrationId })
    await wait(1_000, AbortSignal.timeout(10_000))
    held.clear()
    await until(id, ({ group }) => group.state === 'COMPLETED')
    expect(toldElsewhere).toEqual([])
    expect(told).toEqual(['copy 0', 'copy 0', 'cut over 0'])
  } finally {
    await other.close()
    await rm(elsewhere, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  }
})
