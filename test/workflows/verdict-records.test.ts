import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { recordKinds } from '../../src/domain/migration-record.ts'
import { decideVerdict } from '../../src/domain/verdict.ts'
import type { SiteRecord } from '../../src/plugin-sdk/index.ts'
import { attemptsIn } from '../../src/workflows/verdict-records.ts'

const scalar = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null))
const uniqueId = fc.constantFrom('one', 'another')
const ours = fc.record({
  key: fc
    .tuple(fc.constantFrom('m1', 'm2'), fc.integer({ min: 0, max: 3 }), fc.constantFrom(...recordKinds, 'outcome.', 'strange'))
    .map((parts) => `migration.${parts.join('.')}`),
  writtenAt: fc.oneof(fc.constant('2026-11-22T12:00:00.000Z'), fc.string()),
  content: fc.oneof(
    fc.record({ uniqueId, vmId: scalar, decision: fc.constantFrom('COMMITTED', 'ABANDONED', 'commited', null) }, { requiredKeys: [] }),
    fc.dictionary(fc.string(), scalar),
    fc.constantFrom(null, 'text', 7),
  ),
})
const strange = fc.record({ key: fc.string(), writtenAt: fc.string(), content: fc.anything() })
const records = fc.array(fc.oneof(ours, strange), { maxLength: 30 }) as fc.Arbitrary<SiteRecord[]>

test('whatever a site holds is read without a fault, and as attempts that can be put in order', () => {
  fc.assert(
    fc.property(records, (held) => {
      for (const { attempt, startedAt, migrationId } of attemptsIn(held)) {
        expect(Number.isSafeInteger(attempt) && attempt > 0 && Number.isFinite(startedAt)).toBe(true)
        expect(migrationId).not.toBe('')
      }
    }),
  )
})

test('nothing is MIGRATED without a started record and a completed event or record, all of one unique id', () => {
  fc.assert(
    fc.property(records, (held) => {
      for (const { records: read, found, uniqueId: of } of attemptsIn(held)) {
        if (decideVerdict(read).verdict !== 'MIGRATED') continue
        expect(found.started).toBeDefined()
        const proof = [found.completed, found.outcome].filter((record) => record?.content['uniqueId'] === of)
        expect(proof.length).toBeGreaterThan(0)
      }
    }),
  )
})

test('records of no attempt of ours change nothing', () => {
  fc.assert(
    fc.property(records, fc.array(strange) as fc.Arbitrary<SiteRecord[]>, (held, others) => {
      const foreign = others.filter(({ key }) => !key.startsWith('migration.'))
      expect(attemptsIn([...foreign, ...held])).toEqual(attemptsIn(held))
    }),
  )
})
