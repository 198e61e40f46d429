import { afterAll, beforeAll, expect, test } from 'vitest'
import { workloadEndpoint } from '../../src/cli/demo-migration.ts'
import { differingBlocks } from '../support/compare-disks.ts'
import { inGuest, signalAgent, untilFrozen, untilThawed } from '../support/in-guest.ts'
import { killControlPlane } from '../support/kill.ts'
import { diskImage, hasEnded, openScenario, type ScenarioSite } from '../support/scenario-site.ts'

/**
 * One real migration loses, while its source is frozen, first the source's agent and then the control plane. Each time the guest must thaw by itself, that
 * switchover must come to nothing, and a later one must carry over everything that the guest acknowledged meanwhile.
 */
let scenario: ScenarioSite
let id: string
const inSource = (script: string) => inGuest(scenario.source, scenario.vm.vmId, script)
const power = async () => (await scenario.source.connection.virtualMachines.describe({ vmId: scenario.vm.vmId })).power

async function moreRecordsAreAcknowledged() {
  const before = scenario.records.acknowledged()
  await expect.poll(() => scenario.records.acknowledged(), { timeout: 120_000 }).toBeGreaterThan(before + 3)
}

beforeAll(async () => {
  scenario = await openScenario({ from: 'east', agents: { lostAfterMs: 30_000 } })
  const { migration } = await scenario.start()
  id = migration!.id
  await scenario.until(id, ({ phase }) => phase === 'SYNC')
})
afterAll(() => scenario?.close())

test('the agent is killed while the source is frozen: the guest thaws once its lease lapses, and another switchover is prepared', async () => {
  expect(await inSource(`${untilFrozen}\n${signalAgent('KILL')}\n${untilThawed}`)).toContain('the lease lapsed')
  await moreRecordsAreAcknowledged()
  expect(await power()).toBe('RUNNING')

  const present = await scenario.until(id, ({ phase, switchover }) => switchover === 2 && phase === 'SYNC')
  expect(present).toMatchObject({ state: 'RUNNING', error: null })
})

test('the control plane is killed while the source is frozen, and stays away: the guest thaws within its lease', async () => {
  // The agent is held for a moment, or the switchover might be over before the control plane is.
  const freeze = await inSource(`${untilFrozen}\n${signalAgent('STOP')}`)
  await killControlPlane(scenario.controlPlane())
  expect(await inSource(`${signalAgent('CONT')}\nfreeze=${freeze}\n${untilThawed}`)).toBe('the lease lapsed')
  await moreRecordsAreAcknowledged()
  expect(await power()).toBe('RUNNING')
})

test('once the control plane is back, that switchover is void, and the migration completes in another one, from outside with equal disks', async () => {
  await scenario.restartControlPlane()
  await scenario.until(id, ({ switchover }) => switchover > 2)
  const sealed = await scenario.until(
    id,
    (present) => ['FIX_UP_GUEST', 'BOOT_DESTINATION', 'HEALTH_CHECK'].includes(present.phase) || hasEnded(present),
  )
  expect(sealed).toMatchObject({ state: 'RUNNING', error: null })
  const { virtualMachines } = await scenario.destination.connection.discoverTopology({})
  const destination = virtualMachines.find(({ uniqueId }) => uniqueId === scenario.vm.uniqueId)
  const images = [await diskImage(scenario.source, scenario.vm.vmId), await diskImage(scenario.destination, destination!.id)] as const
  expect(await differingBlocks(...images)).toEqual([])

  const ended = await scenario.until(id, hasEnded)
  expect(ended).toMatchObject({ state: 'COMPLETED', verified: true })
  expect(await power()).toBe('STOPPED')
})

test('every record that was acknowledged is at the destination, those from between the switchovers too', async () => {
  scenario.records.moveTo(workloadEndpoint(await scenario.migration(id), 8080))
  await scenario.records.stop()
  expect(await scenario.records.count()).toBe(scenario.records.acknowledged())
})
