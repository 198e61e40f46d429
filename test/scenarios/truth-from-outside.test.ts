import { stat } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { workloadEndpoint } from '../../src/cli/demo-migration.ts'
import { differingBlocks } from '../support/compare-disks.ts'
import { diskImage, hasEnded, openScenario, type ScenarioMigration, type ScenarioSite } from '../support/scenario-site.ts'

/**
 * The guest appends, rewrites and punches holes throughout. After the roots were compared the copied disk stays sealed under an overlay until the very end, and the source's disk is
 * frozen, then off: in between, both images are compared from the host, where no agent has a word.
 */
describe.each([{ from: 'east' }, { from: 'west' }] as const)('a busy VM moves from $from', ({ from }) => {
  let scenario: ScenarioSite
  let moved: ScenarioMigration
  let differing: number[]
  beforeAll(async () => {
    scenario = await openScenario({ from })
    const { migration } = await scenario.start()
    const sealed = await scenario.until(
      migration!.id,
      (present) => ['FIX_UP_GUEST', 'BOOT_DESTINATION', 'HEALTH_CHECK'].includes(present.phase) || hasEnded(present),
    )
    expect(sealed).toMatchObject({ state: 'RUNNING', error: null })
    const { virtualMachines } = await scenario.destination.connection.discoverTopology({})
    const destination = virtualMachines.find(({ uniqueId }) => uniqueId === scenario.vm.uniqueId)
    differing = await differingBlocks(
      await diskImage(scenario.source, scenario.vm.vmId),
      await diskImage(scenario.destination, destination!.id),
    )
    moved = await scenario.until(migration!.id, hasEnded)
  })
  afterAll(() => scenario?.close())

  test('"succeeded" with an empty or wrong disk: it completes only when verified, with the same root on both sides', () => {
    expect(moved).toMatchObject({ state: 'COMPLETED', verified: true, error: null })
    expect(moved.sourceRoot).toBe(moved.destinationRoot)
  })

  test('wrong assumptions about zeros and sparse disks: from outside, no 64 KiB block of the copied disk differs from the source', () => {
    expect(differing).toEqual([])
  })

  test('every acknowledged record is found at the destination', async () => {
    scenario.records.moveTo(workloadEndpoint(moved, 8080))
    await scenario.records.stop()
    expect(scenario.records.acknowledged()).toBeGreaterThan(10)
    expect(await scenario.records.count()).toBe(scenario.records.acknowledged())
  })

  test('the source is off and kept, the destination runs, and there is one live copy', async () => {
    expect((await scenario.source.connection.virtualMachines.describe({ vmId: scenario.vm.vmId })).power).toBe('STOPPED')
    expect((await stat(await diskImage(scenario.source, scenario.vm.vmId))).size).toBe(Number(moved.diskBytes))
    const { virtualMachines } = await scenario.destination.connection.discoverTopology({})
    expect(virtualMachines.filter(({ uniqueId }) => uniqueId === scenario.vm.uniqueId).map(({ power }) => power)).toEqual(['RUNNING'])
  })

  test('rounds send at most 1.1 times what changed', () => {
    for (const round of moved.rounds.nodes) expect(Number(round.bytesSent)).toBeLessThanOrEqual(1.1 * Number(round.changedBytes) + 65_536)
  })
})
