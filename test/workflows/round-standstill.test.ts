import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { eq } from 'drizzle-orm'
import { rounds } from '../../src/database/tables/migration.ts'
import type { RoundProgress } from '../../src/transfer/control-protocol.ts'
import { expectMoved, quickTimings, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

let stage: MigrationStage
let hook: (call: string, when: 'before' | 'after') => void | Promise<void> = () => {}

beforeEach(async () => {
  hook = () => {}
  stage = await setMigrationStage({ hook: (call, when) => hook(call, when) })
})
afterEach(() => stage.close())

const standing: RoundProgress = {
  round: 1,
  scannedBytes: 2 ** 30,
  totalBytes: 2 ** 31,
  changedBytes: 0,
  bytesSent: 0,
  verifiedBytes: 2 ** 29,
  rateBytesPerSecond: 0,
  etaMs: null,
  bottleneck: 'DESTINATION_DISK',
  changeRateBytesPerSecond: null,
}

/** The first round reports the same again and again: until it is stopped, but no longer than `forMs`. */
function reportInFirstRound(progress: RoundProgress, forMs: number): void {
  const ended = new AbortController()
  hook = async (call, when) => {
    if (call === 'SOURCE.round.stop') ended.abort()
    if (call !== 'SOURCE.round.run' || when !== 'before') return
    const until = performance.now() + forMs
    for (; !ended.signal.aborted && performance.now() < until; await sleep(5)) stage.reportProgress(progress)
    ended.abort()
  }
}
async function roundsOf(id: string): Promise<string[]> {
  const rows = await stage.database.select().from(rounds).where(eq(rounds.migrationId, id))
  return rows.map(({ state }) => state)
}

test('a round that had moved, and in which nothing moves any more though its agent reports, is stopped and run again', async () => {
  reportInFirstRound(standing, 20_000)
  const id = await stage.start()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', problem: null })
  expect(await roundsOf(id)).toContain('FAILED')
  await expectMoved(stage)
})

test('nothing of a round is kept once it has ended: neither of one that was stopped nor of those after it', async () => {
  reportInFirstRound(standing, 20_000)
  const id = await stage.start()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
  expect((await roundsOf(id)).length).toBeGreaterThan(1)
  expect(stage.listenersForDestination()).toBe(0)
})

describe('while the source stands still, a round that looks up what is to be left out', () => {
  /** The frozen round reports so for longer than it may stand still. */
  async function frozenRound(lookedUpFiles: (report: number) => number): Promise<string[]> {
    let first = true
    hook = async (call, when) => {
      if (call !== 'SOURCE.round.run' || when !== 'before' || !first || stage.world.look().source.freeze === null) return
      first = false
      const rows = await stage.database.select().from(rounds)
      const round = Math.max(...rows.map((row) => row.round))
      const until = performance.now() + 3 * quickTimings.frozenStallMs
      for (let report = 1; performance.now() < until; await sleep(20))
        stage.reportProgress({ ...standing, round, scannedBytes: 0, verifiedBytes: 0, lookedUpFiles: lookedUpFiles(report++) })
    }
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
    expect(first).toBe(false)
    await expectMoved(stage)
    return roundsOf(id)
  }

  test('is not stopped as long as it finds more', async () => {
    expect(await frozenRound((report) => report)).not.toContain('FAILED')
  })

  test('is stopped when it finds no more', async () => {
    expect(await frozenRound(() => 1)).toContain('FAILED')
  })
})

describe('a round goes on for as long as it takes', () => {
  test.each<[string, Partial<RoundProgress>]>([
    ['while the destination reads a kept disk before anything moves', { scannedBytes: 0, verifiedBytes: 0 }],
    ['while the limit of bandwidth holds it', { bottleneck: 'BANDWIDTH_LIMIT' }],
    ['while unchanged blocks are read after twice-read ones filled its count', { scannedBytes: 2 ** 31, rateBytesPerSecond: 1e6 }],
  ])('%s', async (_case, change) => {
    reportInFirstRound({ ...standing, ...change }, 3 * quickTimings.standstillMs)
    const id = await stage.start()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
    expect(await roundsOf(id)).not.toContain('FAILED')
  })
})
