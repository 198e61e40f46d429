import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { heardOf, pausedOccupation } from '../../src/domain/phase-activity.ts'
import type { PhaseContext } from '../../src/workflows/phase.ts'
import { startHeartbeat } from '../../src/workflows/phase-heartbeat.ts'
import type { MigrationPatch, MigrationRow, MigrationStore } from '../../src/workflows/migration-store.ts'

const migration = { id: 'a migration' } as MigrationRow
const phase = { name: 'BOOT_DESTINATION', timeoutMs: 300_000 } as const
/** What the issue of the operator's control permits. */
const longestSilenceMs = 5_000

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

function storeThat(usualDurationMs: number | null, write: (patch: MigrationPatch) => Promise<void>): MigrationStore {
  return {
    write: (_: MigrationRow, { patch }: { patch?: MigrationPatch }) => write(patch ?? {}),
    usualDurationMs: async () => usualDurationMs,
  } as Partial<MigrationStore> as MigrationStore
}

function heard(usualDurationMs: number | null = null) {
  const said: { atMs: number; patch: MigrationPatch }[] = []
  const since = performance.now()
  const store = storeThat(usualDurationMs, async (patch) => {
    said.push({ atMs: performance.now() - since, patch })
  })
  return { said, store }
}

test('a phase is never silent for more than 5 s, and says for how long it has been at it', async () => {
  const { said, store } = heard()
  const stop = startHeartbeat(store, migration, phase)
  await vi.advanceTimersByTimeAsync(60_000)
  await stop()

  const moments = [0, ...said.map(({ atMs }) => atMs), 60_000]
  expect(Math.max(...moments.slice(1).map((moment, index) => moment - moments[index]!))).toBeLessThanOrEqual(longestSilenceMs)
  expect(new Set(said.map(({ patch }) => patch.activity)).size).toBe(said.length)
  expect(said.at(-1)!.patch.activity).toMatch(/60 s/)
})

test('while it is in the midst of something else, it says so, and since when', async () => {
  const { said, store } = heard(5_000)
  const context: Pick<PhaseContext, 'occupation'> = { occupation: null }
  const stop = startHeartbeat(store, migration, phase, { context })
  await vi.advanceTimersByTimeAsync(4_000)
  Object.assign(context, { occupation: { what: pausedOccupation, since: performance.now() } })
  await vi.advanceTimersByTimeAsync(8_000)
  expect(said.at(-1)!.patch).toEqual({ activity: expect.stringMatching(/^Is paused.* for 8 s now;/) as string, etaMs: null })
  Object.assign(context, { occupation: null })
  await vi.advanceTimersByTimeAsync(2_000)
  await stop()
  expect(said.at(-1)!.patch.activity).toMatch(/^Boots the destination.* for 14 s now;/)
})

test('a silence is told as one once it is longer than any heartbeat', () => {
  expect(heardOf('It copies.', 4_000)).toBe('It copies.')
  expect(heardOf('It copies.', 61_000)).toMatch(/^It copies\. Last heard of 61 s ago/)
})

test('the ETA is what is left of how long the phase took the last time, and never negative', async () => {
  const { said, store } = heard(5_000)
  const stop = startHeartbeat(store, migration, phase)
  await vi.advanceTimersByTimeAsync(8_000)
  await stop()
  expect(said.map(({ patch }) => patch.etaMs)).toEqual([3_000, 1_000, 0, 0])
})

test('where it never took place before, or measures itself, no ETA is made up', async () => {
  for (const [usual, name] of [
    [null, 'BOOT_DESTINATION'],
    [5_000, 'SYNC'],
  ] as const) {
    const { said, store } = heard(usual)
    const stop = startHeartbeat(store, migration, { ...phase, name })
    await vi.advanceTimersByTimeAsync(4_000)
    await stop()
    expect(said).toHaveLength(2)
    for (const { patch } of said) expect(patch).not.toHaveProperty('etaMs')
  }
})

test('a word that could not be written is followed by the next, and after the end there is none', async () => {
  let refusals = 1
  const said: MigrationPatch[] = []
  const store = storeThat(null, async (patch) => {
    if (refusals-- > 0) throw new Error('The database is busy.')
    said.push(patch)
  })
  const stop = startHeartbeat(store, migration, phase)
  await vi.advanceTimersByTimeAsync(6_000)
  await stop()
  expect(said).toHaveLength(2)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(said).toHaveLength(2)
})
