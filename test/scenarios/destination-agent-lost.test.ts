import { afterAll, beforeAll, expect, test } from 'vitest'
import { workloadEndpoint } from '../../src/cli/demo-migration.ts'
import { differingBlocks } from '../support/compare-disks.ts'
import { diskImage, hasEnded, openScenario, type ScenarioMigration, type ScenarioSite } from '../support/scenario-site.ts'

/**
 * "The copy was nearly done, then the target died, and it began again at zero." Here the destination's virtual machine, which has the agent and all that it knew in its
 * RAM, loses its power once the first round is through. It boots again by itself; its disk is compared, and what is there is not sent again.
 */
/** Two whole passes over a disk, on whatever machine: milliseconds. */
const patienceMs = 1_200_000

let scenario: ScenarioSite
let id: string
beforeAll(async () => {
  scenario = await openScenario({ from: 'east' })
  const { migration } = await scenario.start({ cutoverPolicy: 'MANUAL' })
  id = migration!.id
})
afterAll(() => scenario?.close())

const done = ({ rounds }: ScenarioMigration) => rounds.nodes.filter(({ state }) => state === 'DONE')
const destinationVm = async () => {
  const { virtualMachines } = await scenario.destination.connection.discoverTopology({})
  return virtualMachines.find(({ uniqueId }) => uniqueId === scenario.vm.uniqueId)!
}

test(
  'a destination that loses its power while it is synced boots again, and what it holds is not copied again',
  async () => {
    const before = await scenario.until(id, ({ phase }) => phase === 'READY_TO_CUT_OVER', patienceMs)
    const [first] = done(before)
    const { id: vmId } = await destinationVm()
    await scenario.destination.connection.virtualMachines.stop({ operationId: 'somebody pulls the plug', vmId, force: true })
    const lost = done(await scenario.migration(id)).length

    const after = await scenario.until(
      id,
      (present) =>
        hasEnded(present) ||
        done(present)
          .slice(lost)
          .some(({ mode }) => mode === 'FULL'),
    )
    expect(after).toMatchObject({ state: 'RUNNING', error: null })
    const compared = done(after)
      .slice(lost)
      .find(({ mode }) => mode === 'FULL')!
    // What the guest wrote meanwhile, which is more on a slower machine, and the hash trees.
    expect(Number(compared.bytesSent)).toBeLessThan(Number(first!.bytesSent) * 0.5)
    expect((await destinationVm()).power).toBe('RUNNING')
  },
  2 * patienceMs,
)

test(
  'it cuts over all the same, and the copy is whole',
  async () => {
    const document = `mutation Cut($input: CutOverMigrationInput!) { cutOverMigration(input: $input) { __typename } }`
    await scenario.api().run(document, { input: { idempotencyKey: 'cut over', migrationId: id } })
    const sealed = await scenario.until(
      id,
      (present) => ['FIX_UP_GUEST', 'BOOT_DESTINATION', 'HEALTH_CHECK'].includes(present.phase) || hasEnded(present),
      patienceMs,
    )
    expect(sealed).toMatchObject({ state: 'RUNNING', error: null })
    const vm = await destinationVm()
    const images = [await diskImage(scenario.source, scenario.vm.vmId), await diskImage(scenario.destination, vm.id)] as const
    expect(await differingBlocks(...images)).toEqual([])
    const moved = await scenario.until(id, hasEnded, patienceMs)
    expect(moved).toMatchObject({ state: 'COMPLETED', verified: true })
    scenario.records.moveTo(workloadEndpoint(moved, 8080))
    await scenario.records.stop()
    expect(await scenario.records.count()).toBe(scenario.records.acknowledged())
  },
  2 * patienceMs,
)
