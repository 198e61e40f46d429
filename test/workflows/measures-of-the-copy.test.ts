/** Rate, bottleneck and ETA are of a copy that goes on: nothing shows them once it doesn't. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { CallHook } from './support/fake-clouds.ts'
import { operator, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'
import type { MigrationRow } from '../../src/workflows/migration-store.ts'
import { phaseLists, type PhaseLists } from '../../src/workflows/phase-lists.ts'

const measures = { etaMs: 5_000, rateBytesPerSecond: 2_000_000, bottleneck: 'LINK' }
const none = { etaMs: null, rateBytesPerSecond: null, bottleneck: null }

let stage: MigrationStage
let hook: CallHook
/** As it was while it was being undone. */
let undone: MigrationRow[]

beforeEach(async () => {
  undone = []
  hook = () => {}
  stage = await setMigrationStage({ hook: (call, when) => hook(call, when) })
})
afterEach(() => stage.close())

const measure = async (id: string) => stage.store.write(await stage.store.read(id), { patch: measures })

/** `inRound` is done in a round that has its measures; whoever undoes something by the call `undo` is looked at. */
function watch(id: string, undo: string, inRound: () => unknown): void {
  hook = async (call, when) => {
    if (call === 'SOURCE.round.run' && when === 'before') {
      await measure(id)
      await inRound()
    }
    if (call === undo) undone.push(await stage.store.read(id))
  }
}

test('of a migration that fails in a round, neither while it is undone nor at its end', async () => {
  const id = await stage.start()
  watch(id, 'west.delete', () => {
    throw new Error('It broke.')
  })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', ...none })
  expect(undone[0]).toMatchObject({ direction: 'BACK_TO_START', ...none })
})

test('of a migration that is cancelled in a round, neither while it is undone nor at its end', async () => {
  const id = await stage.start()
  let answer: Promise<unknown> | undefined
  watch(id, 'west.delete', async () => {
    answer ??= stage.operations.cancelMigration(operator, { idempotencyKey: 'cancel', migrationId: id })
    await vi.waitFor(async () => expect((await stage.store.read(id)).desired).toBe('CANCEL'))
    throw new Error('It broke.')
  })
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'CANCELLED', ...none })
  expect(undone[0]).toMatchObject({ direction: 'BACK_TO_START', endState: 'CANCELLED', ...none })
  await answer
})

test('not by what the agent said of a round just as that failed', async () => {
  const id = await stage.start()
  watch(id, 'none', () => {
    throw new Error('It broke.')
  })
  const { write } = stage.store
  const said = { ...measures, scannedBytes: 1, totalBytes: 2, changedBytes: 0, bytesSent: 0, verifiedBytes: 0 }
  vi.spyOn(stage.store, 'write').mockImplementation(async (migration, what) => {
    if (what.round?.state === 'FAILED')
      stage.reportProgress({ ...said, round: what.round.round, bottleneck: 'LINK', changeRateBytesPerSecond: null })
    return write(migration, what)
  })
  const migration = await stage.drive(stage.runner(), id)
  // Progress is written so long after it was told.
  await new Promise((later) => setTimeout(later, 300))
  expect(await stage.store.read(id)).toMatchObject({ state: 'FAILED', ...none })
  expect(await stage.store.lastRound(migration)).toMatchObject({ state: 'FAILED' })
})

test('of a switchover that is void, not while it is undone', async () => {
  const id = await stage.start()
  let voided = false
  const lists: PhaseLists = {
    2: phaseLists[2]!.map((phase) => ({
      ...phase,
      async do(context) {
        if (phase.name !== 'SEND_REMAINDER' || voided) return phase.do(context)
        voided = true
        await measure(id)
        return { outcome: 'VOID', reason: 'it was.', ownFault: true }
      },
    })),
  }
  watch(id, 'east.release', () => {})
  expect(await stage.drive(stage.runner(lists), id)).toMatchObject({ state: 'COMPLETED', switchover: 2 })
  expect(undone[0]).toMatchObject({ direction: 'BACK_TO_SYNC', ...none })
})

test('whatever ends a migration ends them', async () => {
  const id = await stage.start()
  await measure(id)
  await stage.store.end(await stage.store.read(id), { state: 'FAILED' }, { kind: 'STATE_CHANGED', message: 'It ended.' })
  expect(await stage.store.read(id)).toMatchObject({ state: 'FAILED', ...none })
})
