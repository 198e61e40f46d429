import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { attestations } from '../../src/database/tables/attestation.ts'
import { reconciliations } from '../../src/database/tables/reconciliation.ts'
import { PortolanError } from '../../src/domain/errors.ts'
import { createVerdictReader } from '../../src/workflows/verdict-reader.ts'
import { machine, migrationId, putRecords, setVerdictStage, uniqueId, type VerdictStage } from '../workflows/verdict-stage.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { idOf, seed } from './seed.ts'

let api: ApiUnderTest
let stage: VerdictStage
let admin: string
let viewer: string

beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  stage = await setVerdictStage()
  admin = await api.tokenOf('ADMIN')
  viewer = await api.tokenOf('VIEWER')
})
beforeEach(() => {
  api.behave({})
  api.called.length = 0
})
afterAll(async () => {
  await stage.close()
  await api.stop()
})

const verdicts = `query ($migrationIds: [ID!], $cloudId: ID) { migrationVerdicts(migrationIds: $migrationIds, cloudId: $cloudId) {
  migrationId migration { id } attempt uniqueId name verdict row message safeActions source { id } destination { id } sourceCloud { id } destinationCloud { id } readAt
  evidence { site cloud { id } kind key found message readAt } reconciliation { id state done } attestations { statement tokenName }
} }`

test('a viewer reads the verdict of a migration that nobody here knows, with its evidence, what was done and who attested what', async () => {
  await stage.connect('east', 'west')
  stage.west.machines['copy'] = machine({ exposed: false })
  stage.east.site = 'DEAD'
  putRecords(stage.west, ['started', 'placeholder', 'COMMITTED'])
  const reader = createVerdictReader({ ...stage, timeoutMs: 60 })
  api.behave({ migrationVerdicts: (_, question) => reader.read(question, new AbortController().signal) })
  const at = new Date()
  await api.db.write((orm) => [
    orm
      .insert(attestations)
      .values({ id: 'a', cloudId: 'west', uniqueId, migrationId, attempt: 1, statement: 'Burnt.', tokenId: 'gone', at }),
    orm.insert(reconciliations).values({
      id: 'r',
      engineId: 'e',
      cloudId: 'west',
      uniqueId,
      migrationId,
      attempt: 1,
      state: 'WAITING',
      verdict: 'MIGRATED',
      row: 'COMPLETED_EVENT',
      done: ['One.'],
      createdAt: at,
      updatedAt: at,
    }),
  ])
  const { data, errors } = await api.run<{ migrationVerdicts: object[] }>(viewer, verdicts, { cloudId: idOf('Cloud', 'west') })
  expect(errors).toBeUndefined()
  expect(data.migrationVerdicts).toMatchObject([
    {
      migrationId: idOf('Migration', migrationId),
      migration: null,
      uniqueId,
      verdict: 'MIGRATED',
      row: 'COMPLETED_EVENT',
      safeActions: ['WAIT_FOR_SOURCE', 'ATTEST_SOURCE'],
      source: null,
      // Its row is only there once the topology was refreshed.
      destination: null,
      sourceCloud: null,
      destinationCloud: { id: idOf('Cloud', 'west') },
      reconciliation: { id: idOf('Reconciliation', 'r'), state: 'WAITING', done: ['One.'] },
      attestations: [{ statement: 'Burnt.', tokenName: null }],
    },
  ])
  expect(data.migrationVerdicts[0]).toMatchObject({
    evidence: expect.arrayContaining([
      expect.objectContaining({ site: 'DESTINATION', kind: 'COMPLETED_EVENT', found: 'YES' }),
      expect.objectContaining({ site: 'SOURCE', kind: 'SOURCE_MACHINE', found: 'UNREADABLE' }),
    ]) as unknown,
  })
})

test.each([
  ['none', {}],
  ['both', { cloudId: idOf('Cloud', 'west'), migrationIds: [idOf('Migration', 'm')] }],
  ['an empty list', { migrationIds: [] }],
  ['too many', { migrationIds: Array.from({ length: 101 }, (_, index) => idOf('Migration', `${index}`)) }],
  ['the id of another type', { cloudId: idOf('Migration', 'm') }],
])('%s instead of one argument is refused, and no cloud is asked', async (_, variables) => {
  const { errors } = await api.run(viewer, verdicts, variables)
  expect(errors).toMatchObject([{ extensions: { code: 'INVALID_INPUT' } }])
  expect(api.called).toEqual([])
})

test('what can not be read at all is an error that says so', async () => {
  api.behave({
    migrationVerdicts: () =>
      Promise.reject(new PortolanError('CLOUD_UNREACHABLE', 'The records are out of reach.', { retryable: true, remedy: 'Wait.' })),
  })
  const { errors } = await api.run(viewer, verdicts, { cloudId: idOf('Cloud', 'west') })
  expect(errors).toMatchObject([
    { message: 'The records are out of reach.', extensions: { code: 'CLOUD_UNREACHABLE', remedy: 'Wait.', retryable: true } },
  ])
})

test('a reconciliation is answered with the row that it is seen by', async () => {
  api.behave({ reconcileMigrations: async () => ({ reconciliationIds: ['r'] }) })
  const document = `mutation ($input: ReconcileMigrationsInput!) { reconcileMigrations(input: $input) { ... on ReconcileMigrationsSuccess { reconciliations { state uniqueId } } ... on Error { code path } } }`
  const run = (input: object) => api.run(admin, document, { input: { idempotencyKey: randomUUID(), ...input } })
  expect(await run({ migrationIds: [idOf('Migration', migrationId)] })).toMatchObject({
    data: { reconcileMigrations: { reconciliations: [{ state: 'WAITING', uniqueId }] } },
  })
  expect(api.called).toMatchObject([['reconcileMigrations', {}, { migrationIds: [migrationId] }]])
  expect(await run({})).toMatchObject({ data: { reconcileMigrations: { code: 'INVALID_INPUT' } } })
  const { data } = await api.run<object>(viewer, `{ reconciliations(filter: { states: [WAITING] }) { totalCount nodes { id problem } } }`)
  expect(data).toMatchObject({ reconciliations: { totalCount: 1, nodes: [{ id: idOf('Reconciliation', 'r') }] } })
})

test.each([
  ['the migration', { migrationId: idOf('Migration', migrationId) }, { migrationId }],
  ['unique id and cloud', { uniqueId: uniqueId.toUpperCase(), cloudId: idOf('Cloud', 'west') }, { uniqueId, cloudId: 'west' }],
  ['nothing', {}, null],
  ['a unique id alone', { uniqueId }, null],
  ['everything', { migrationId: idOf('Migration', migrationId), uniqueId, cloudId: idOf('Cloud', 'west') }, null],
  ['an empty statement', { migrationId: idOf('Migration', migrationId), statement: ' ' }, null],
])('an attestation names the machine by %s', async (_, named, of) => {
  api.behave({ attestSourceDead: async () => ({ attestationId: 'a' }) })
  const document = `mutation ($input: AttestSourceDeadInput!) { attestSourceDead(input: $input) { ... on AttestSourceDeadSuccess { attestation { statement } } ... on Error { code } } }`
  const { data } = await api.run<object>(admin, document, { input: { idempotencyKey: randomUUID(), statement: 'Burnt.', ...named } })
  expect(data).toMatchObject({ attestSourceDead: of ? { attestation: { statement: 'Burnt.' } } : { code: 'INVALID_INPUT' } })
  expect(api.called).toMatchObject(of ? [['attestSourceDead', {}, { of, statement: 'Burnt.' }]] : [])
})
