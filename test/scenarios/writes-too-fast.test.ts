import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { hasEnded, openScenario, type ScenarioMigration, type ScenarioSite } from '../support/scenario-site.ts'

/**
 * A guest that never stops writing, a link that may carry little at this time of the day, and a downtime that nothing can meet. The titles are what users of other
 * programs complain about.
 */
const limitBytesPerSecond = 2 * 1024 * 1024
/** Holds all day long, wherever the clock stands. */
const window = { from: '00:00', to: '00:00', timeZone: 'Pacific/Auckland', limitBytesPerSecond }

interface Progress {
  state: ScenarioMigration['state']
  phase: string
  activity: string | null
  bottleneck: string | null
  bottleneckRemedy: string | null
  bytesSent: number | string
  copyKept: boolean
}
let scenario: ScenarioSite
let id: string
/** No word of it is older than 5 s, which is a test of the heartbeat's; here the whole machine stands still at times. */
const longestSilenceMs = 30_000
const seen: Progress[] = []
/** What is told, and when it was first told so. */
const words: { atMs: number; word: string }[] = []
let watching: NodeJS.Timeout | undefined

async function read(): Promise<Progress> {
  const { migration } = await scenario
    .api()
    .run<{ migration: Progress }>(
      'query Progress($id: ID!) { migration(id: $id) { state phase activity bottleneck bottleneckRemedy bytesSent copyKept } }',
      { id },
    )
  seen.push(migration)
  const word = JSON.stringify(migration)
  if (words.at(-1)?.word !== word) words.push({ atMs: performance.now(), word })
  if (hasEnded(migration)) clearInterval(watching)
  return migration
}

beforeAll(async () => {
  scenario = await openScenario({ from: 'west' })
  const { migration } = await scenario.start({
    permittedDowntimeMs: 1,
    nonConvergencePolicy: 'ABORT',
    bandwidth: { windows: [window] },
  })
  id = migration!.id
  watching = setInterval(() => void read().catch(() => {}), 250)
})
afterAll(async () => {
  clearInterval(watching)
  await scenario?.close()
})

test('bandwidth limits by time of day: while the window holds no more goes over the link', async () => {
  await expect.poll(async () => (await read()).bottleneck, { timeout: 300_000, interval: 500 }).toBe('BANDWIDTH_LIMIT')
  const from = { at: performance.now(), bytesSent: Number((await read()).bytesSent) }
  await new Promise((later) => setTimeout(later, 10_000))
  const sent = Number((await read()).bytesSent) - from.bytesSent
  expect(sent).toBeGreaterThan(0)
  // What is told is up to two seconds old at the beginning.
  expect(sent).toBeLessThan(limitBytesPerSecond * ((performance.now() - from.at) / 1000 + 2))
})

test('name the bottleneck and the remedy: the limit is said to be what holds it up, and what to do about it', async () => {
  const limited = seen.findLast(({ bottleneck }) => bottleneck === 'BANDWIDTH_LIMIT')
  expect(limited?.bottleneckRemedy).toMatch(/limit/i)
  const answer = await scenario
    .api()
    .run<{ setBandwidthLimit: { message?: string } }>(
      'mutation Lift($input: SetBandwidthLimitInput!) { setBandwidthLimit(input: $input) { ... on Error { message } } }',
      { input: { idempotencyKey: randomUUID(), migrationId: id, bandwidth: { limitBytesPerSecond: null } } },
    )
  expect(answer.setBandwidthLimit).toEqual({})
  await expect.poll(async () => (await read()).bottleneck, { timeout: 60_000, interval: 500 }).not.toBe('BANDWIDTH_LIMIT')
})

test('non-convergence: it is detected, named with both rates, and ends as the policy says', async () => {
  while (!hasEnded(await read())) await new Promise((later) => setTimeout(later, 500))
  const { state, error } = await scenario.migration(id)
  expect({ state, code: error?.code }).toEqual({ state: 'FAILED', code: 'NOT_CONVERGING' })
  expect(error!.message).toMatch(/changes at \d+ bytes a second and is copied at \d+ bytes a second/)
  expect(error!.remedy).toMatch(/longer downtime/)
})

test('no silent phases: whenever somebody looked, it said what it was doing', () => {
  const silent = seen.filter(({ state, activity }) => state === 'RUNNING' && !activity)
  expect(silent).toEqual([])
  const gapsMs = words.slice(1).map(({ atMs }, index) => atMs - words[index]!.atMs)
  expect(Math.max(...gapsMs)).toBeLessThan(longestSilenceMs)
})

test('clean-up destroyed a finished copy: what was copied is kept, powered off, and the source goes on', async () => {
  expect(await read()).toMatchObject({ state: 'FAILED', copyKept: true })
  const { virtualMachines } = await scenario.destination.connection.discoverTopology({})
  expect(virtualMachines.map(({ power }) => power)).toEqual(['STOPPED'])
  expect((await scenario.source.connection.virtualMachines.describe({ vmId: scenario.vm.vmId })).power).toBe('RUNNING')
  const acknowledged = scenario.records.acknowledged()
  await expect.poll(() => scenario.records.acknowledged(), { timeout: 60_000 }).toBeGreaterThan(acknowledged)
})
