/** docs/protocol.md has the invariants and the table of ordered pairs that are checked here. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { checkModel } from './spin.ts'

const model = join(import.meta.dirname, 'switchover.pml')
const full = process.env['PORTOLAN_TEST_FULL'] === '1'
const slowMachineMs = 300_000

/** What is swapped, with how many faults that needs, and the invariant that falls. The table of docs/protocol.md says the same. */
const mutants: Record<string, { faults: number; violates: string }> = {
  INSTANTIATE_BEFORE_STARTED: { faults: 0, violates: 'recordsNameWhatIsThere' },
  SUSPEND_BEFORE_ARM: { faults: 1, violates: 'oneServesInTheEnd' },
  REMAINDER_BEFORE_FREEZE: { faults: 0, violates: 'oneIsRecoverable' },
  SUSPEND_BEFORE_RENEWAL: { faults: 1, violates: 'oneIsRecoverable' },
  THAW_BEFORE_LAPSE: { faults: 0, violates: 'oneIsRecoverable' },
  LEASE_CHECK_BEFORE_FENCE: { faults: 1, violates: 'oneIsRecoverable' },
  LEASE_CHECK_BEFORE_SUSPEND: { faults: 0, violates: 'oneIsRecoverable' },
  BOOT_BEFORE_SEAL: { faults: 0, violates: 'keptCopyIsAsVerified' },
  COMMIT_BEFORE_ROOTS: { faults: 1, violates: 'oneIsRecoverable' },
  COMMIT_BEFORE_HEALTH: { faults: 0, violates: 'oneIsRecoverable' },
  EXPOSE_BEFORE_HEALTH: { faults: 0, violates: 'recordsTellTheLiveCopy' },
  COMMIT_BEFORE_FENCE: { faults: 1, violates: 'recordsTellTheLiveCopy' },
  EXPOSE_BEFORE_COMMIT: { faults: 0, violates: 'recordsTellTheLiveCopy' },
  START_BEFORE_EXPOSE: { faults: 1, violates: 'oneServesInTheEnd' },
  COMPLETED_BEFORE_EXPOSE: { faults: 1, violates: 'oneServesInTheEnd' },
  RELEASE_BEFORE_ABANDONED: { faults: 1, violates: 'recordsTellTheLiveCopy' },
  NOT_SUPERSEDED: { faults: 1, violates: 'oneServesInTheEnd' },
  ROLLED_BACK_BEFORE_FENCE: { faults: 0, violates: 'recordsTellTheLiveCopy' },
  RELEASE_BEFORE_ROLLED_BACK: { faults: 0, violates: 'recordsTellTheLiveCopy' },
  RECONCILIATION_COMPLETES_BEFORE_LOOK: { faults: 2, violates: 'oneServesInTheEnd' },
  RECONCILIATION_RELEASES_BEFORE_ABANDONED: { faults: 2, violates: 'recordsTellTheLiveCopy' },
}

test(
  `the protocol keeps its invariants with ${full ? 'three' : 'two'} faults at any moments`,
  { timeout: full ? 2 * slowMachineMs : slowMachineMs },
  async ({ signal }) => {
    const { violated, states } = await checkModel(model, [`FAULTS=${full ? 3 : 2}`], { large: true, signal })
    expect(violated).toBeNull()
    expect(states).toBeGreaterThan(1_000_000)
  },
)

test.for(['MIGRATED', 'NOT_MIGRATED'])('a migration can end %s', { timeout: slowMachineMs }, async (outcome, { signal }) => {
  // The claim that it never does must fall.
  expect(await checkModel(model, ['FAULTS=0', `CLAIM_NEVER_${outcome}`], { signal })).toMatchObject({ violated: `never_${outcome}` })
})

test.for(Object.entries(mutants))('%s breaks it', { timeout: slowMachineMs }, async ([name, { faults, violates }], { signal }) => {
  expect(await checkModel(model, [`FAULTS=${faults}`, `MUTANT_${name}`], { signal })).toMatchObject({ violated: violates })
})

test.for(['SWAP_ARM_AND_FREEZE', 'SWAP_SUSPEND_AND_SEAL'])('%s would do as well', { timeout: slowMachineMs }, async (swap, { signal }) => {
  expect(await checkModel(model, ['FAULTS=1', swap], { signal })).toMatchObject({ violated: null })
})

test('docs/protocol.md has a row for every mutant of the model, with the invariant that it breaks, and a mutant for every row', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/protocol.md'), 'utf8')
  const inModel = new Set([...readFileSync(model, 'utf8').matchAll(/MUTANT_(\w+)/g)].map((match) => match[1]!))
  inModel.delete('')
  expect([...inModel].toSorted()).toEqual(Object.keys(mutants).toSorted())
  const pairs = /^## Ordered pairs$(.*?)^## /ms.exec(page)![1]!
  const rows = pairs.split('\n').filter((line) => line.startsWith('|'))
  const said = rows.slice(2).map((row) => row.split('|').slice(3, 5).join())
  const expected = Object.entries(mutants).map(([name, { violates }]) => ` \`${name}\` , ${violates} `)
  expect(said.toSorted()).toEqual(expected.toSorted())
})
