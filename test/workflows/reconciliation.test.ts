import { setTimeout as delay } from 'node:timers/promises'
import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { attestations } from '../../src/database/tables/attestation.ts'
import { clouds } from '../../src/database/tables/cloud.ts'
import { migrations } from '../../src/database/tables/migration.ts'
import { reconciliations } from '../../src/database/tables/reconciliation.ts'
import { virtualMachines } from '../../src/database/tables/topology.ts'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import { createAttestationOperations } from '../../src/workflows/attestation-operations.ts'
import { createIdempotency } from '../../src/workflows/idempotency.ts'
import type { Operations } from '../../src/workflows/operations.ts'
import { createReconciliationOperations } from '../../src/workflows/reconciliation-operations.ts'
import {
  createReconciliationRunner,
  type ReconciliationRow,
  type ReconciliationRunner,
  type ReconciliationTimings,
} from '../../src/workflows/reconciliation-runner.ts'
import { startReconciliationWatch } from '../../src/workflows/reconciliation-watch.ts'
import { refreshTopology } from '../../src/workflows/topology-refresh.ts'
import { createVerdictReader, type VerdictReader } from '../../src/workflows/verdict-reader.ts'
import type { VerdictQuestion } from '../../src/workflows/verdict-subjects.ts'
import { migrationRequest, operator } from './support/migration-settings-for-tests.ts'
import { isRead, machine, migrationId, putRecords, setVerdictStage, uniqueId, type VerdictStage } from './verdict-stage.ts'

const admin = { tokenId: 'admin', role: 'ADMIN' as const }
const armed = { id: `${migrationId}.1.2`, closed: false }
const outcomeKey = `migration.${migrationId}.1.outcome`

let stage: VerdictStage
let runner: ReconciliationRunner
let verdicts: VerdictReader
let submitted: string[]
let operations: Pick<Operations, 'reconcileMigrations' | 'attestSourceDead'>

beforeEach(async () => {
  stage = await setVerdictStage()
  await stage.connect('east', 'west')
  verdicts = createVerdictReader({ ...stage, timeoutMs: 60 })
  submitted = []
  runner = newRunner()
  const idempotency = createIdempotency(stage.database, sealKeyOf(Buffer.alloc(32, 7)))
  const submit = async (key: string) => void submitted.push(key)
  operations = {
    ...createReconciliationOperations({ verdicts, idempotency, engineId: 'engine', submit }),
    ...createAttestationOperations({ verdicts, idempotency, wake: () => runner.wake() }),
  }
  stage.east.machines['vm-1'] = machine({ power: 'SUSPENDED', fence: { ...armed } })
  stage.west.machines['copy'] = machine({ exposed: false })
})
afterEach(async () => {
  await runner.close()
  expect(stage.violations).toEqual([])
  await stage.close()
})

/** Another one is another process. */
function newRunner(reader = verdicts, timings: Partial<ReconciliationTimings> = {}): ReconciliationRunner {
  return createReconciliationRunner({
    database: stage.database,
    verdicts: reader,
    timings: { firstLookMs: 5, maxLookMs: 20, sliceMs: 30, ...timings },
  })
}
const ask = (idempotencyKey = 'key') => operations.reconcileMigrations(operator, { idempotencyKey, cloudId: 'west' })
const row = async (): Promise<ReconciliationRow> => (await stage.database.select().from(reconciliations))[0]!
async function runToItsEnd(): Promise<ReconciliationRow> {
  while ((await runner.advance(submitted.at(-1)!)) !== null);
  return row()
}
const changing = () => [stage.east, stage.west].flatMap(({ calls }) => calls).filter((call) => !isRead(call) && !call.endsWith('.putAgain'))

describe('not migrated: the machine goes on at the source', () => {
  beforeEach(() => putRecords(stage.west, ['started', 'placeholder']))

  test('the commit is made impossible, the copy is powered off and kept, and a suspended source is resumed', async () => {
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', verdict: 'NOT_MIGRATED', problem: null })
    expect(stage.west.records[outcomeKey]?.content).toMatchObject({ decision: 'ABANDONED' })
    expect(stage.west.machines['copy']).toMatchObject({ power: 'STOPPED' })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
    expect(changing()).toEqual(['east.release', 'east.resume', 'east.uninstall', 'west.put', 'west.stop'])
  })

  test('a source that lost its power under its fence is started', async () => {
    stage.east.machines['vm-1']!.power = 'STOPPED'
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE' })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
  })

  test('a source that somebody stopped, with no fence of ours, stays off', async () => {
    stage.east.machines['vm-1'] = machine({ power: 'STOPPED' })
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE' })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'STOPPED' })
  })

  test('a source whose way back was cut short between the release of its fence and its resumption is resumed, and that is said', async () => {
    stage.east.machines['vm-1'] = machine({ power: 'SUSPENDED' })
    await ask()
    const ended = await runToItsEnd()
    expect(ended).toMatchObject({ state: 'DONE' })
    expect(ended.done).toContain('The source, which was suspended without a fence, was resumed.')
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING' })
  })

  test('a source that was released and could not be started is still owed its start by whoever comes next', async () => {
    stage.east.machines['vm-1']!.power = 'STOPPED'
    stage.interrupt.before = (call) => {
      if (call === 'east.start') throw new ProviderError('UNSUPPORTED', 'Its disk is damaged.', { retryable: false, remedy: 'Mend it.' })
    }
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'FAILED' })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'STOPPED', fence: null })
    stage.interrupt.before = () => {}
    await ask('again')
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', run: 2, startOwed: false })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING' })
  })

  test('another control plane that commits in between wins: it is read again, and decided again', async () => {
    let committed = false
    stage.interrupt.before = (call) => {
      if (call === 'west.put' && !committed) {
        committed = true
        putRecords(stage.west, ['COMMITTED'])
      }
    }
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', verdict: 'MIGRATED' })
    expect(stage.east.machines['vm-1']).toMatchObject({ fence: { closed: true } })
    expect(stage.west.machines['copy']).toMatchObject({ power: 'RUNNING', exposed: true })
  })

  test.each(['west.stop', 'east.release', 'east.resume', 'east.uninstall'])(
    'cut short before %s, another process ends it',
    async (call) => {
      stage.interrupt.before = cutBefore(call)
      await ask()
      await runner.advance(submitted[0]!).catch(() => {})
      runner = newRunner()
      stage.interrupt.before = () => {}
      expect(await runToItsEnd()).toMatchObject({ state: 'DONE' })
      expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
    },
  )

  test('a source that is gone is waited for, visibly, and goes on when it is back', async () => {
    stage.east.site = 'DEAD'
    await ask()
    await runner.advance(submitted[0]!)
    expect(await row()).toMatchObject({
      state: 'WAITING',
      problem: expect.stringMatching(/source can't be reached.*nothing is started elsewhere/),
    })
    expect(stage.west.machines['copy']).toMatchObject({ power: 'STOPPED' })
    stage.east.site = 'ALIVE'
    stage.east.machines['vm-1']!.power = 'STOPPED'
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE' })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING' })
  })

  test('attested dead, nothing is started anywhere', async () => {
    stage.east.site = 'DEAD'
    await operations.attestSourceDead(admin, { idempotencyKey: 'a', of: { uniqueId, cloudId: 'west' }, statement: 'Burnt.' })
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE' })
    expect(stage.west.machines['copy']).toMatchObject({ power: 'STOPPED', exposed: false })
  })
})

describe('migrated: the destination is the live copy', () => {
  beforeEach(() => putRecords(stage.west, ['started', 'placeholder', 'COMMITTED']))

  test('the source is fenced before the destination is exposed, then the completion is recorded and the source retired', async () => {
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', verdict: 'MIGRATED', sourceFenced: true })
    expect(stage.west.machines['copy']).toMatchObject({ power: 'RUNNING', exposed: true })
    expect(stage.west.records[`migration.${migrationId}.1.completed`]?.content).toMatchObject({ uniqueId, vmId: 'copy' })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'STOPPED', fence: { closed: true } })
    expect(changing()).toEqual(['east.fence', 'east.stop', 'west.expose', 'west.flattenOverlay', 'west.put'])
  })

  test('a source that runs on its own is fenced first', async () => {
    stage.east.machines['vm-1'] = machine({ power: 'RUNNING' })
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE' })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'STOPPED' })
  })

  test('a destination that lost its power is started from its own disk', async () => {
    stage.west.machines['copy']!.power = 'STOPPED'
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE' })
    expect(stage.west.machines['copy']).toMatchObject({ power: 'RUNNING', exposed: true })
  })

  test.each(['west.expose', 'west.flattenOverlay'])(
    'a destination that is held for want of room from %s on is resumed before its completion is recorded',
    async (moment) => {
      let held = 0
      stage.interrupt.before = (call) => void (call === moment && held++ === 0 && (stage.west.machines['copy']!.power = 'SUSPENDED'))
      await ask()
      expect(await runToItsEnd()).toMatchObject({ state: 'DONE' })
      expect(stage.west.machines['copy']).toMatchObject({ power: 'RUNNING', exposed: true })
      expect(changing().indexOf('west.resume')).toBeLessThan(changing().indexOf('west.put'))
      expect(stage.west.records[`migration.${migrationId}.1.completed`]).toBeDefined()
    },
  )

  test('one that a merge holds which was cut short has the merge ended first', async () => {
    stage.west.machines['copy']!.power = 'SUSPENDED'
    let merged = false
    stage.interrupt.before = (call) => {
      if (call === 'west.flattenOverlay') merged = Boolean((stage.west.machines['copy']!.power = 'RUNNING'))
      if (call === 'west.resume' && !merged) throw new Error('A merge is under way.')
    }
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE' })
    expect(stage.west.machines['copy']).toMatchObject({ power: 'RUNNING', exposed: true })
  })

  test('one whose merge takes longer than other deeds may is waited for, and its completion is recorded', async () => {
    runner = newRunner(verdicts, { actionMs: 250 })
    let merges = 0
    stage.interrupt.before = async (call, signal) => {
      if (call !== 'west.flattenOverlay') return
      merges++
      await delay(1_000, undefined, { signal })
    }
    await ask()
    expect(await runToItsEnd()).toMatchObject({
      state: 'DONE',
      done: expect.arrayContaining(['The completion was recorded at the destination.']),
    })
    expect(merges).toBe(1)
  })

  test("with its source gone it waits, until an administrator's word lets it go live; the source that returns is fenced", async () => {
    stage.east.site = 'DEAD'
    await ask()
    await runner.advance(submitted[0]!)
    expect(await row()).toMatchObject({ state: 'WAITING', problem: expect.stringMatching(/attestSourceDead/) })
    expect(stage.west.machines['copy']).toMatchObject({ exposed: false })

    await operations.attestSourceDead(admin, { idempotencyKey: 'a', of: { migrationId }, statement: 'The host burnt down.' })
    expect(await stage.database.select().from(attestations)).toMatchObject([
      { uniqueId, attempt: 1, tokenId: 'admin', statement: 'The host burnt down.' },
    ])
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', sourceFenced: false })
    expect(stage.west.machines['copy']).toMatchObject({ power: 'RUNNING', exposed: true })

    stage.east.site = 'ALIVE'
    await seen('east', 'vm-1')
    await watchOnce()
    expect(submitted.at(-1)).toMatch(/\.2$/)
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', sourceFenced: true, tokenId: null })
    expect(stage.east.machines['vm-1']).toMatchObject({ fence: { closed: true } })
  })

  test('a destination that is gone from its site needs a person', async () => {
    stage.west.machines = {}
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'FAILED', problem: expect.stringMatching(/Nothing safe is left/) })
  })

  test('a rollback that was cut short is ended: the fenced destination stays off, and the source goes on', async () => {
    putRecords(stage.west, ['completed'])
    stage.west.machines['copy'] = machine({ power: 'STOPPED', fence: { ...armed, closed: true } })
    stage.east.machines['vm-1'] = machine({ power: 'STOPPED', fence: { ...armed, closed: true } })
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', verdict: 'NOT_MIGRATED', row: 'ROLLED_BACK' })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
    expect(stage.west.machines['copy']).toMatchObject({ power: 'STOPPED', fence: { closed: true } })
  })

  test('a machine that somebody put in the place of the recorded one is left alone', async () => {
    stage.west.machines = { stranger: machine() }
    stage.east.machines['vm-1']!.power = 'STOPPED'
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'FAILED' })
    expect(changing()).toEqual([])
  })

  test('a rollback that goes on between the look and the deed is not undone: the source that it started runs on', async () => {
    putRecords(stage.west, ['completed'])
    stage.west.machines['copy'] = machine({ power: 'STOPPED', fence: { ...armed, closed: true } })
    let looks = 0
    runner = newRunner({
      async read(...question) {
        if (++looks === 1) stage.east.machines['vm-1'] = machine({ power: 'STOPPED' })
        const answer = await verdicts.read(...question)
        putRecords(stage.west, ['rolled-back'])
        stage.east.machines['vm-1'] = machine()
        return answer
      },
    })
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', row: 'ROLLED_BACK' })
    expect(looks).toBe(2)
    expect(changing()).toEqual([])
  })

  test("a source under another's fence is left alone", async () => {
    stage.east.machines['vm-1']!.fence = { id: 'another', closed: false }
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'FAILED' })
    expect(changing()).toEqual([])
  })
})

test.each([
  ['west.expose', ['COMMITTED'], ['outcome']],
  ['east.release', ['ABANDONED'], ['outcome']],
  ['east.release', ['COMMITTED', 'rolled-back'], ['outcome', 'rolled-back']],
] as const)(
  'before %s a found record is put once more, since a power cut may take what a killed writer left',
  async (deed, records, again) => {
    putRecords(stage.west, ['started', 'placeholder', ...records])
    stage.west.machines['copy'] = machine({ exposed: false, power: 'STOPPED' })
    const lasting = new Set<string>()
    const { records: site } = stage.west.connection
    const { put } = site
    site.put = (request) => put(request).then(() => void lasting.add(request.record.key))
    const before: string[][] = []
    stage.interrupt.before = (call) => void (call === deed && before.push([...lasting]))
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE' })
    expect(before[0]).toEqual(again.map((kind) => `migration.${migrationId}.1.${kind}`))
  },
)

describe('at a destination that has no room to put a found record once more', () => {
  beforeEach(() => {
    stage.interrupt.before = (call) => {
      if (call === 'west.putAgain')
        throw new ProviderError('INSUFFICIENT_CAPACITY', 'The disk is full.', { retryable: false, remedy: 'Free room.' })
    }
  })

  test('a source that returns while its machine has moved is fenced all the same', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'])
    stage.west.machines['copy'] = machine()
    stage.east.machines['vm-1'] = machine({ power: 'STOPPED' })
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', sourceFenced: true })
    expect(stage.east.machines['vm-1']).toMatchObject({ fence: { closed: true } })
  })

  test('a source is not let go on the word of a record that a power cut may take', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'ABANDONED'])
    stage.west.machines['copy'] = machine({ exposed: false, power: 'STOPPED' })
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'FAILED', problem: 'The disk is full. Free room.' })
    expect(changing()).toEqual([])
  })
})

test('the records are read before each deed: a rollback that goes on while the destination is started keeps it from its networks', async () => {
  putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'])
  stage.west.machines['copy'] = machine({ exposed: false, power: 'STOPPED' })
  stage.east.machines['vm-1'] = machine({ power: 'STOPPED', fence: { ...armed, closed: true } })
  stage.interrupt.before = (call) => void (call === 'west.start' && putRecords(stage.west, ['rolled-back']))
  await ask()
  expect(await runToItsEnd()).toMatchObject({ state: 'DONE', row: 'ROLLED_BACK' })
  expect(changing()).not.toContain('west.expose')
  expect(stage.west.machines['copy']).toMatchObject({ power: 'STOPPED' })
  expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
})

describe('once, however often it is sent', () => {
  test.each([
    ['migrated', ['started', 'placeholder', 'COMMITTED'] as const],
    ['not migrated', ['started', 'placeholder'] as const],
  ])('%s: with one key or with several it is one reconciliation, and nothing is done twice', async (_, records) => {
    putRecords(stage.west, [...records])
    const [one, again, other] = [await ask(), await ask(), await ask('another')]
    expect(again).toEqual(one)
    expect(other).toEqual(one)
    await runToItsEnd()
    const ended = await row()
    const calls = changing()
    expect(await ask('later')).toEqual(one)
    expect(await runToItsEnd()).toEqual(ended)
    expect(changing()).toEqual(calls)
  })

  test('one that has ended is taken up again where there is something to do again', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'])
    await ask()
    await runToItsEnd()
    stage.east.machines['vm-1'] = machine({ power: 'STOPPED', fence: null })
    await ask('later')
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', run: 2 })
    expect(stage.east.machines['vm-1']).toMatchObject({ fence: { closed: true } })
  })

  test('several processes that are handed it at once join', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'])
    await ask()
    const key = submitted[0]!
    await Promise.all([runner.advance(key), runner.advance(key), newRunner().advance(key)])
    await runToItsEnd()
    expect(stage.west.machines['copy']).toMatchObject({ exposed: true })
  })

  test('a run that nobody knows, since its database is gone, has ended', async () => {
    expect(await runner.advance('lost.1')).toBeNull()
  })
})

describe('what it refuses, and what it leaves alone', () => {
  test('a migration of our own whose workflow runs is reported only', async () => {
    putRecords(stage.west, ['started', 'placeholder'])
    await storeMigration('RUNNING')
    await ask()
    await runner.advance(submitted[0]!)
    expect(await row()).toMatchObject({
      state: 'WAITING',
      problem: expect.stringMatching(/own workflow is at SEND_REMAINDER.*WAITING: The source is gone/),
    })
    expect(changing()).toEqual([])
  })

  test('a word against a source that answers is refused, and nothing is stored', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'])
    const attest = operations.attestSourceDead(admin, { idempotencyKey: 'a', of: { migrationId }, statement: 'Dead.' })
    await expect(attest).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW', message: expect.stringMatching(/its source answers/) })
    expect(await stage.database.select().from(attestations)).toEqual([])
  })

  test('an attestation can not be changed or deleted afterwards', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'])
    stage.east.site = 'SILENT'
    await operations.attestSourceDead(admin, { idempotencyKey: 'a', of: { migrationId }, statement: 'Dead.' })
    await expect(stage.database.write((orm) => [orm.update(attestations).set({ statement: 'Alive.' })])).rejects.toThrow()
    await expect(stage.database.write((orm) => [orm.delete(attestations)])).rejects.toThrow()
  })

  test('while the destination can not be read nothing is done, and it is tried again', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'])
    await ask()
    stage.west.site = 'DEAD'
    await runner.advance(submitted[0]!)
    expect(await row()).toMatchObject({
      state: 'WAITING',
      verdict: 'UNKNOWN',
      problem: expect.stringMatching(/nothing is started anywhere/),
    })
    expect(changing()).toEqual([])
    stage.west.site = 'ALIVE'
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', verdict: 'MIGRATED' })
  })
})

test.each(['UNREACHABLE', 'CONNECTED'] as const)(
  'the source of a completed migration of ours is fenced, unasked, when its cloud answers again: %s before',
  async (cloudState) => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'])
    stage.west.machines['copy'] = machine()
    stage.east.machines['vm-1'] = machine({ power: 'STOPPED' })
    await storeMigration('COMPLETED')
    await seen('east', 'vm-1')
    await setCloudState(cloudState)
    await watchOnce()
    if (cloudState === 'CONNECTED') return expect(submitted).toEqual([])
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', sourceFenced: true })
    expect(stage.east.machines['vm-1']).toMatchObject({ fence: { closed: true } })
  },
)

test('a source that returns while its records can not be read is fenced once they can', async () => {
  putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'])
  stage.west.machines['copy'] = machine()
  stage.east.machines['vm-1'] = machine({ power: 'STOPPED' })
  stage.east.site = 'RECORDS_DAMAGED'
  await storeMigration('COMPLETED')
  await seen('east', 'vm-1')
  await setCloudState('UNREACHABLE')
  await watch(async (look) => {
    await look()
    expect(submitted).toEqual([])
    stage.east.site = 'ALIVE'
    await look()
  })
  expect(await runToItsEnd()).toMatchObject({ state: 'DONE', sourceFenced: true })
  expect(stage.east.machines['vm-1']).toMatchObject({ fence: { closed: true } })
})

test('a source that returns before its destination is fenced once that is back as well', async () => {
  putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'])
  stage.west.machines['copy'] = machine()
  stage.east.machines['vm-1'] = machine({ power: 'STOPPED' })
  stage.east.site = stage.west.site = 'DEAD'
  await storeMigration('COMPLETED')
  await seen('east', 'vm-1')
  await watch(async (look) => {
    await look()
    stage.east.site = 'ALIVE'
    await look()
    expect(submitted).toEqual([])
    stage.west.site = 'ALIVE'
    await look()
  })
  expect(await runToItsEnd()).toMatchObject({ state: 'DONE', sourceFenced: true })
  expect(stage.east.machines['vm-1']).toMatchObject({ fence: { closed: true } })
})

test('a source that was fenced and given up while it was suspended is retired when it returns', async () => {
  putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'])
  stage.west.machines['copy'] = machine()
  stage.east.machines['vm-1'] = machine({ power: 'SUSPENDED', fence: { ...armed, closed: true } })
  await storeMigration('COMPLETED')
  await seen('east', 'vm-1')
  await setCloudState('UNREACHABLE')
  await watchOnce()
  expect(await runToItsEnd()).toMatchObject({ state: 'DONE', sourceFenced: true })
  expect(stage.east.machines['vm-1']).toMatchObject({ power: 'STOPPED', fence: { closed: true } })
})

test('a cloud that dies after it answered is noticed, and its source is fenced when it returns', async () => {
  putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'])
  stage.west.machines['copy'] = machine()
  stage.east.machines['vm-1'] = machine({ power: 'STOPPED' })
  await storeMigration('COMPLETED')
  await seen('east', 'vm-1')
  await watch(async (look) => {
    await look()
    stage.east.site = 'DEAD'
    await look()
    expect(await stage.database.select().from(clouds).where(eq(clouds.id, 'east'))).toMatchObject([{ state: 'UNREACHABLE' }])
    expect(submitted).toEqual([])
    stage.east.site = 'ALIVE'
    await look()
  })
  expect(await runToItsEnd()).toMatchObject({ state: 'DONE', sourceFenced: true })
  expect(stage.east.machines['vm-1']).toMatchObject({ fence: { closed: true } })
})

describe('a source that was attested dead, and is the one by its verdict', () => {
  const dies = async () => {
    stage.east.site = 'DEAD'
    await operations.attestSourceDead(admin, { idempotencyKey: 'a', of: { uniqueId, cloudId: 'west' }, statement: 'Burnt.' })
  }
  beforeEach(async () => {
    putRecords(stage.west, ['started', 'placeholder', 'ABANDONED'])
    stage.west.machines['copy'] = machine({ power: 'STOPPED', exposed: false })
    stage.east.machines['vm-1'] = machine({ power: 'STOPPED', fence: { ...armed, closed: true } })
    await seen('east', 'vm-1')
  })
  const returns = () =>
    watch(async (look) => {
      await look()
      expect(submitted.filter((key) => key.endsWith('.2'))).toEqual([])
      stage.east.site = 'ALIVE'
      await look()
    })

  test.each(['FAILED', 'CANCELLED'] as const)('goes on, unasked, when its cloud answers again: its migration is %s', async (state) => {
    await storeMigration(state)
    await dies()
    await returns()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', verdict: 'NOT_MIGRATED', tokenId: null })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
  })

  describe('whose cloud was disconnected, and connected again under another name,', () => {
    const ofDisconnected = { sourceCloudId: 'east-before', sourceVirtualMachineId: 'east-before/vm-1' }

    test('goes on, unasked, when that cloud answers', async () => {
      await storeMigration('FAILED', { ...ofDisconnected, createdAt: new Date(0) })
      await dies()
      await returns()
      expect(await runToItsEnd()).toMatchObject({ state: 'DONE', verdict: 'NOT_MIGRATED' })
      expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
    })

    test('is found there though an earlier migration had brought it there, and this one has left no records', async () => {
      putRecords(stage.east, ['started', 'placeholder', 'COMMITTED'], {
        migrationId: migrationId.replace('aaaaaaaa', '00000000'),
        vmId: 'vm-1',
        writtenAt: '2020-01-01T00:00:00.000Z',
      })
      stage.west.records = {}
      await stage.connect('east-before')
      await stage.database.write((orm) => [orm.update(clouds).set({ state: 'DISCONNECTED' }).where(eq(clouds.id, 'east-before'))])
      await seen('east-before', 'vm-1')
      await storeMigration('FAILED', { ...ofDisconnected, createdAt: new Date(Date.now() - 60_000) })
      const [verdict] = await verdicts.read({ migrationIds: [migrationId] }, new AbortController().signal)
      expect(verdict).toMatchObject({ standing: { row: 'NOT_STARTED' }, source: { cloudId: 'east', standing: { power: 'STOPPED' } } })
    })

    test('is not taken to be at a cloud that was connected before the migration began, which may hold a copy', async () => {
      await storeMigration('FAILED', { ...ofDisconnected, createdAt: new Date(Date.now() + 3_600_000) })
      const [verdict] = await verdicts.read({ migrationIds: [migrationId] }, new AbortController().signal)
      expect(verdict).toMatchObject({ source: { cloudId: null, vm: null, standing: { power: 'UNKNOWN' } } })
    })
  })

  test('goes on, unasked, once its migration has failed, though its cloud had returned before', async () => {
    await storeMigration('RUNNING')
    await dies()
    await watch(async (look) => {
      await look()
      stage.east.site = 'ALIVE'
      await look()
      expect(submitted).toEqual([])
      await setMigrationState('FAILED')
      await look()
    })
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', verdict: 'NOT_MIGRATED' })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
  })

  test('goes on, unasked, though its cloud was silent too shortly to be noticed: the word of its death has every cloud looked at', async () => {
    await storeMigration('FAILED')
    await watch(async (look, doubt) => {
      await look()
      await dies()
      doubt()
      stage.east.site = 'ALIVE'
      await look()
    })
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', verdict: 'NOT_MIGRATED' })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
  })

  test('goes on, unasked, when its cloud answers again: it was reconciled from the records alone', async () => {
    await dies()
    await ask()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE' })
    await returns()
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', run: 2 })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
  })

  test('goes on, unasked, also where a full destination had kept its attempt from being recorded as abandoned', async () => {
    delete stage.west.records[outcomeKey]
    await storeMigration('FAILED')
    await dies()
    await returns()
    const ended = await runToItsEnd()
    expect(ended).toMatchObject({ state: 'DONE', verdict: 'NOT_MIGRATED' })
    expect(ended.done.at(-1)).toMatch(/^What the attempt had put into the source's guest was removed/)
    expect(stage.west.records[outcomeKey]?.content).toMatchObject({ decision: 'ABANDONED' })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
  })

  test('goes on, unasked, though a retry that never came to arm a fence of its own decides by now', async () => {
    await storeMigration('FAILED')
    await dies()
    await watch(async (look) => {
      await look()
      putRecords(stage.west, ['started', 'placeholder', 'ABANDONED'], { attempt: 2, writtenAt: new Date().toISOString() })
      await stage.database.write((orm) => [orm.update(migrations).set({ attempt: 2 })])
      stage.east.site = 'ALIVE'
      await look()
    })
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', attempt: 2, verdict: 'NOT_MIGRATED' })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
  })

  test('is taken up again after it could not be put right', async () => {
    await storeMigration('FAILED')
    await dies()
    stage.interrupt.before = (call) => {
      if (call === 'east.release') throw new ProviderError('INSUFFICIENT_CAPACITY', 'No room.', { retryable: false, remedy: 'Make some.' })
    }
    await watch(async (look) => {
      stage.east.site = 'ALIVE'
      await look()
      expect(await runToItsEnd()).toMatchObject({ state: 'FAILED' })
      stage.interrupt.before = () => {}
      await look()
    })
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', run: 2 })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
  })

  test('stays under its fence while somebody runs the kept copy', async () => {
    await storeMigration('FAILED')
    await dies()
    stage.west.machines['copy'] = machine()
    await returns()
    expect(submitted).toEqual([])
    expect(changing()).toEqual([])
  })
})

describe("a migration whose destination's cloud was disconnected, and connected again under another name,", () => {
  const read = async (question: VerdictQuestion = { migrationIds: [migrationId] }) =>
    (await verdicts.read(question, new AbortController().signal)).map(({ standing, destination }) => [
      standing.verdict,
      destination.cloudId,
    ])
  beforeEach(async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'])
    await seen('east', 'vm-1')
    await storeMigration('COMPLETED', { destinationCloudId: 'west-before' })
  })

  test('has the verdict of the records there', async () => {
    expect(await read()).toEqual([['MIGRATED', 'west']])
    expect(await read({ cloudId: 'east' })).toEqual([['MIGRATED', 'west']])
  })

  test('is UNKNOWN while they can not be read', async () => {
    stage.west.site = 'RECORDS_DAMAGED'
    expect(await read()).toEqual([['UNKNOWN', 'west-before']])
  })

  test('is UNKNOWN where they are of another machine', async () => {
    stage.west.records = {}
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'], { uniqueId: 'another' })
    expect(await read()).toEqual([['UNKNOWN', 'west-before']])
  })

  test('is UNKNOWN where two sites have them, since nothing tells which it went to', async () => {
    stage.south.records = structuredClone(stage.west.records)
    await stage.connect('south')
    expect(await read()).toEqual([['UNKNOWN', 'west-before']])
  })
})

describe('of the third move of a machine back to the same site, from the records alone', () => {
  const [second, third] = ['bbbbbbbb', 'cccccccc'].map((id) => migrationId.replace('aaaaaaaa', id)) as [string, string]
  beforeEach(async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'])
    putRecords(stage.east, ['started', 'placeholder', 'COMMITTED', 'completed'], {
      migrationId: second,
      writtenAt: '2026-11-23T12:00:00.000Z',
      vmId: 'vm-1',
      sourceVmId: 'copy',
    })
    putRecords(stage.west, ['started', 'placeholder'], { migrationId: third, writtenAt: '2026-11-24T12:00:00.000Z' })
    stage.east.machines['vm-1'] = machine({ power: 'SUSPENDED', fence: { id: `${third}.1.1`, closed: true } })
  })

  test('while the site in the middle is not read it waits, and goes on once it is', async () => {
    stage.east.site = 'DEAD'
    await ask()
    await runner.advance(submitted[0]!)
    expect(await row()).toMatchObject({ state: 'WAITING', migrationId: third, problem: expect.stringMatching(/until they answer/) })
    expect(changing()).toEqual([])
    stage.east.site = 'ALIVE'
    expect(await runToItsEnd()).toMatchObject({ state: 'DONE', verdict: 'NOT_MIGRATED' })
    expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', fence: null })
    expect(stage.west.machines['copy']).toMatchObject({ power: 'STOPPED' })
  })
})

async function setCloudState(state: 'CONNECTED' | 'UNREACHABLE'): Promise<void> {
  await stage.database.write((orm) => [orm.update(clouds).set({ state }).where(eq(clouds.id, 'east'))])
}

async function setMigrationState(state: 'FAILED'): Promise<void> {
  await stage.database.write((orm) => [orm.update(migrations).set({ state })])
}

function cutBefore(call: string): (present: string) => void {
  return (present) => {
    if (present === call) throw new Error('The process died.')
  }
}

/** As a read of the topology would have left it. */
async function seen(cloudId: string, vmId: string): Promise<void> {
  const shape = { hostId: 'host', architecture: 'x86_64', firmware: 'BIOS', cpuCount: 1, memoryBytes: 1 } as const
  const values = {
    id: `${cloudId}/${vmId}`,
    cloudId,
    providerId: vmId,
    uniqueId,
    name: 'victim',
    power: 'STOPPED',
    present: true,
    seenAt: new Date(),
    ...shape,
  } as const
  await stage.database.write((orm) => [orm.insert(virtualMachines).values(values).onConflictDoNothing()])
}

const watchOnce = () => watch((look) => look())

async function watch(during: (look: () => Promise<void>, doubt: () => void) => Promise<void>): Promise<void> {
  const submit = async (key: string) => void submitted.push(key)
  const watching = startReconciliationWatch({
    ...stage,
    verdicts,
    engineId: 'engine',
    submit,
    wake: () => {},
    refreshTopology: async (cloudId, signal) => void (await refreshTopology(stage.database, stage.connections, cloudId, signal)),
    log: () => {},
  })
  await during(watching.look, watching.doubt)
  await watching.close()
}

/** `change`: such as another cloud, which has been disconnected since. */
async function storeMigration(
  state: 'RUNNING' | 'COMPLETED' | 'FAILED' | 'CANCELLED',
  change: Partial<typeof migrations.$inferInsert> = {},
): Promise<void> {
  const now = new Date()
  await stage.database.write((orm) => [
    orm.insert(migrations).values({
      id: migrationId,
      attempt: 1,
      phaseListVersion: 2,
      engineId: 'engine',
      state,
      phase: 'SEND_REMAINDER',
      problem: 'The source is gone.',
      desired: 'RUN',
      cutoverPolicy: 'AUTOMATIC',
      sourceCloudId: 'east',
      destinationCloudId: 'west',
      sourceVirtualMachineId: 'east/vm-1',
      request: migrationRequest(),
      permittedDowntimeMs: 1,
      findings: [],
      createdAt: now,
      updatedAt: now,
      ...change,
    }),
  ])
}
