import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { attestations } from '../../src/database/tables/attestation.ts'
import { createVerdictReader, type MachineVerdict, type VerdictReader } from '../../src/workflows/verdict-reader.ts'
import type { VerdictQuestion } from '../../src/workflows/verdict-subjects.ts'
import { isRead, machine, migrationId, putRecords, setVerdictStage, uniqueId, type VerdictStage } from './verdict-stage.ts'

let stage: VerdictStage
let reader: VerdictReader

beforeEach(async () => {
  stage = await setVerdictStage()
  await stage.connect('east', 'west')
  reader = createVerdictReader({ ...stage, timeoutMs: 60 })
  stage.east.machines['vm-1'] = machine({ power: 'SUSPENDED', fence: { id: `${migrationId}.1.2`, closed: false } })
  stage.west.machines['copy'] = machine({ exposed: false })
})
afterEach(() => stage.close())

const read = (question: VerdictQuestion = { cloudId: 'west' }) => reader.read(question, new AbortController().signal)
const readOne = async (question?: VerdictQuestion): Promise<MachineVerdict> => {
  const all = await read(question)
  expect(all).toHaveLength(1)
  return all[0]!
}

describe('after the control plane lost its database, from the records alone', () => {
  test('a machine without a completed event is not migrated, and the commit has to be made impossible first', async () => {
    putRecords(stage.west, ['started', 'placeholder'])
    const verdict = await readOne()
    expect(verdict).toMatchObject({
      migrationId,
      attempt: 1,
      uniqueId,
      standing: { verdict: 'NOT_MIGRATED', row: 'NO_COMPLETED_EVENT', known: false, source: { power: 'SUSPENDED', fence: 'ARMED' } },
      safeActions: ['ABANDON', 'STOP_DESTINATION'],
    })
    expect(verdict.evidence.map(({ kind, found }) => `${kind} ${found}`)).toEqual([
      'STARTED_RECORD YES',
      'PLACEHOLDER_RECORD YES',
      'COMPLETED_EVENT NO',
      'COMPLETED_RECORD NO',
      'ROLLBACK_RECORD NO',
      'DESTINATION_MACHINE YES',
      'DESTINATION_FENCE NO',
      'SOURCE_MACHINE YES',
      'SOURCE_FENCE YES',
    ])
  })

  test('one with its completed event is migrated, and the source that was found is to be fenced first', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'])
    expect(await readOne()).toMatchObject({ standing: { verdict: 'MIGRATED', row: 'COMPLETED_EVENT' }, safeActions: ['FENCE_SOURCE'] })
  })

  test('the migration is found by its id, too', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'])
    expect(await readOne({ migrationIds: [migrationId] })).toMatchObject({ standing: { verdict: 'MIGRATED' } })
    await expect(read({ migrationIds: ['unknown'] })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test('asking the cloud that was the source finds what other sites have records of', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'])
    expect(await readOne({ cloudId: 'east' })).toMatchObject({ destination: { cloudId: 'west' }, source: { cloudId: 'east' } })
  })

  test('a record about a machine of another unique id counts as absent', async () => {
    putRecords(stage.west, ['started', 'placeholder'])
    putRecords(stage.west, ['COMMITTED'], { uniqueId: 'another' })
    const verdict = await readOne()
    expect(verdict.standing).toMatchObject({ verdict: 'NOT_MIGRATED', row: 'NO_COMPLETED_EVENT' })
    expect(verdict.evidence.find(({ kind }) => kind === 'COMPLETED_EVENT')).toMatchObject({ found: 'NO', message: /another unique id/ })
  })
})

describe('with the source site and its host gone', () => {
  beforeEach(() => putRecords(stage.west, ['started', 'placeholder', 'COMMITTED']))

  test.each(['DEAD', 'SILENT'] as const)('a source that is %s does not keep the verdict from coming', async (site) => {
    stage.east.site = site
    expect(await readOne()).toMatchObject({
      standing: { verdict: 'MIGRATED', source: { power: 'UNKNOWN', fence: 'UNKNOWN' } },
      safeActions: ['WAIT_FOR_SOURCE', 'ATTEST_SOURCE'],
    })
  })

  test('a source whose machine is missing is waited for, and not taken for stopped', async () => {
    stage.east.machines = {}
    expect(await readOne()).toMatchObject({ standing: { source: { power: 'UNKNOWN' } }, safeActions: ['WAIT_FOR_SOURCE', 'ATTEST_SOURCE'] })
  })

  test("an administrator's word lets the destination go live", async () => {
    stage.east.site = 'DEAD'
    await stage.database.write((orm) => [
      orm
        .insert(attestations)
        .values({ id: 'a', cloudId: 'west', uniqueId, migrationId, attempt: 1, statement: '-', tokenId: 't', at: new Date() }),
    ])
    expect((await readOne()).safeActions).toEqual(['EXPOSE_DESTINATION', 'COMPLETE_RECORDS'])
  })
})

test("a source whose site's records can not be read is left alone: it may have been moved back there since", async () => {
  putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'], { sourceCloudId: 'east' })
  stage.east.machines['vm-1'] = machine()
  stage.east.site = 'RECORDS_DAMAGED'
  expect(await readOne()).toMatchObject({
    standing: { verdict: 'MIGRATED', source: { power: 'UNKNOWN' } },
    source: { cloudId: 'east', message: expect.stringMatching(/A record is damaged/) },
    safeActions: ['WAIT_FOR_SOURCE', 'ATTEST_SOURCE'],
  })
})

describe('when the destination can not be read', () => {
  test('nothing is known of a cloud without records, and that is said', async () => {
    stage.west.site = 'DEAD'
    await expect(read()).rejects.toMatchObject({ code: 'CLOUD_UNREACHABLE', retryable: true })
  })

  test('a migration asked for by its id is UNKNOWN, and nothing may be started', async () => {
    stage.west.site = 'SILENT'
    expect(await readOne({ migrationIds: [migrationId] })).toMatchObject({
      standing: { verdict: 'UNKNOWN', row: 'UNREADABLE' },
      safeActions: ['WAIT_FOR_DESTINATION'],
    })
  })
})

describe('of several migrations of one machine', () => {
  const second = { migrationId: 'bbbbbbbb-0000-4000-8000-000000000002', writtenAt: '2026-11-23T12:00:00.000Z' }

  test('one that was moved on to another site since is not decided by what was once done here', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'])
    putRecords(stage.east, ['started', 'placeholder', 'COMMITTED', 'completed'], { ...second, vmId: 'vm-1', sourceVmId: 'copy' })
    const verdicts = await read()
    expect(verdicts.find(({ destination }) => destination.cloudId === 'west')).toMatchObject({
      standing: { disputed: true },
      safeActions: ['NONE'],
    })
    expect(verdicts.find(({ destination }) => destination.cloudId === 'east')).toMatchObject({
      migrationId: second.migrationId,
      standing: { verdict: 'MIGRATED' },
    })
  })

  test('one that began on top of a committed one is left to people', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'])
    putRecords(stage.west, ['started', 'placeholder'], second)
    expect(await readOne()).toMatchObject({ migrationId, standing: { verdict: 'MIGRATED', disputed: true }, safeActions: ['NONE'] })
  })

  test('a machine of the same unique id elsewhere, that is not the recorded source, is left alone', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'])
    stage.east.machines = { 'moved-by-hand': machine() }
    expect((await readOne()).safeActions).toEqual(['WAIT_FOR_SOURCE', 'ATTEST_SOURCE'])
  })

  test('a site that is connected under two names is not its own source', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'])
    stage.east.machines = stage.west.machines
    stage.east.records = stage.west.records
    expect((await readOne()).safeActions).toEqual(['WAIT_FOR_SOURCE', 'ATTEST_SOURCE'])
  })
})

describe('where every site gives a machine the same id, and a third one has it as well,', () => {
  const [earlier, second] = ['00000000', 'bbbbbbbb'].map((id) => migrationId.replace('aaaaaaaa', id)) as [string, string]
  const before = { migrationId: earlier, writtenAt: '2026-11-21T12:00:00.000Z', vmId: 'vm-1' }
  const later = { migrationId: second, writtenAt: '2026-11-23T12:00:00.000Z', vmId: 'vm-1' }
  const off = () => machine({ power: 'STOPPED', exposed: false })
  const waits = ['WAIT_FOR_SOURCE', 'ATTEST_SOURCE']
  const verdictOf = (id: string) => readOne({ migrationIds: [id] })
  beforeEach(async () => {
    await stage.connect('south')
    stage.west.machines = { 'vm-1': off() }
    stage.south.machines = { 'vm-1': off() }
  })

  describe('the copy of an attempt that failed before', () => {
    beforeEach(() => putRecords(stage.south, ['started', 'placeholder', 'ABANDONED'], before))

    test.each(['COMMITTED', 'ABANDONED'] as const)('is not the source while that is out of reach: %s', async (outcome) => {
      putRecords(stage.west, ['started', 'placeholder', outcome], { vmId: 'vm-1' })
      stage.east.machines = {}
      expect(await verdictOf(migrationId)).toMatchObject({ source: { cloudId: null, vm: null }, safeActions: waits })
    })

    test('does not hide it', async () => {
      putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'], { vmId: 'vm-1' })
      expect(await verdictOf(migrationId)).toMatchObject({ source: { cloudId: 'east' }, safeActions: ['FENCE_SOURCE'] })
    })

    test('was not made from the copy of one that began after it', async () => {
      putRecords(stage.west, ['started', 'placeholder', 'ABANDONED'], { vmId: 'vm-1' })
      expect(await verdictOf(earlier)).toMatchObject({ source: { cloudId: 'east' } })
      stage.east.machines = {}
      expect(await verdictOf(earlier)).toMatchObject({ source: { cloudId: null }, safeActions: waits })
    })

    test('is none either where that was ended before it could name its machine', async () => {
      stage.south.records = {}
      putRecords(stage.south, ['started'], { ...before, vmId: undefined })
      putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'], { vmId: 'vm-1' })
      expect(await verdictOf(migrationId)).toMatchObject({ source: { cloudId: 'east' } })
    })
  })

  describe('the source that the migration before had left', () => {
    beforeEach(() => {
      putRecords(stage.east, ['started', 'placeholder', 'COMMITTED', 'completed'], { vmId: 'vm-1' })
      putRecords(stage.west, ['started', 'placeholder'], later)
      stage.east.machines['vm-1'] = machine({ power: 'SUSPENDED', fence: { id: `${second}.1.1`, closed: true } })
      stage.south.machines['vm-1'] = machine({ power: 'STOPPED', exposed: false, fence: { id: `${migrationId}.1.1`, closed: true } })
    })

    test('does not hide the one that was left last', async () => {
      expect(await verdictOf(second)).toMatchObject({
        source: { cloudId: 'east', standing: { power: 'SUSPENDED', fence: 'FENCED' } },
        safeActions: ['ABANDON'],
      })
    })

    test('is not the source where that one is gone', async () => {
      stage.east.machines = {}
      expect(await verdictOf(second)).toMatchObject({ source: { cloudId: 'east', vm: null, standing: { power: 'ABSENT' } } })
    })

    test.each(['DEAD', 'SILENT', 'RECORDS_DAMAGED'] as const)('is not the source while the site of that one is %s', async (site) => {
      stage.east.site = site
      expect(await verdictOf(second)).toMatchObject({ source: { cloudId: null, vm: null, standing: { power: 'UNKNOWN' } } })
    })

    test('is not the source while the site of that one does not tell what machines it has', async () => {
      stage.east.connection.discoverTopology = () => Promise.reject(new Error('It is starting.'))
      expect(await verdictOf(second)).toMatchObject({ source: { cloudId: 'east', vm: null, standing: { power: 'UNKNOWN' } } })
    })

    test('hides nothing where its records can not be read, and its machine is gone', async () => {
      stage.south.site = 'RECORDS_DAMAGED'
      stage.south.machines = {}
      expect(await verdictOf(second)).toMatchObject({ source: { cloudId: 'east' } })
    })

    test('is the source again once writes were carried back to it, which nobody recorded where they came from', async () => {
      putRecords(stage.south, ['started', 'placeholder', 'COMMITTED', 'completed'], {
        ...later,
        migrationId: earlier,
        writtenAt: '2026-11-22T18:00:00.000Z',
        rollsBack: migrationId,
      })
      expect(await verdictOf(second)).toMatchObject({ source: { cloudId: 'south' } })
    })

    test('stays what it was where carrying writes back to it came to nothing', async () => {
      putRecords(stage.south, ['started', 'placeholder', 'ABANDONED'], {
        ...later,
        migrationId: earlier,
        writtenAt: '2026-11-22T18:00:00.000Z',
        rollsBack: migrationId,
      })
      expect(await verdictOf(second)).toMatchObject({ source: { cloudId: 'east' } })
      expect(await verdictOf(migrationId)).toMatchObject({ source: { cloudId: 'south' } })
    })
  })

  test('nothing tells which is the source where neither site has records of it', async () => {
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'], { vmId: 'vm-1' })
    expect(await verdictOf(migrationId)).toMatchObject({ source: { cloudId: null, vm: null }, safeActions: waits })
  })
})

test('it changes nothing: no byte of the database, and no call that is not a read', async () => {
  putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'])
  const files = () => Promise.all(['portolan.db', 'portolan.db-wal'].map((name) => readFile(join(stage.directory, name), 'base64')))
  const before = await files()
  await read()
  await read({ migrationIds: [migrationId] })
  stage.east.site = 'DEAD'
  await read()
  expect(await files()).toEqual(before)
  const calls = [stage.east, stage.west].flatMap((cloud) => cloud.calls)
  expect(calls.length).toBeGreaterThan(5)
  expect(calls.filter((call) => !isRead(call))).toEqual([])
})
