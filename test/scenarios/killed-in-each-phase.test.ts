import { afterAll, beforeAll, expect, test } from 'vitest'
import { workloadEndpoint } from '../../src/cli/demo-migration.ts'
import { killControlPlane, killEngine } from '../support/kill.ts'
import { openScenario, type ScenarioSite } from '../support/scenario-site.ts'

/**
 * One real migration is the victim: in each phase in turn, the control plane, the engine or both are killed (-9) as soon as the phase is seen, and a control plane is started
 * again. It must end by itself, with one live copy and every acknowledged record.
 */
const victims = [['control plane'], ['engine'], ['control plane', 'engine']] as const

let scenario: ScenarioSite
beforeAll(async () => void (scenario = await openScenario()))
afterAll(() => scenario?.close())

test('a migration whose control plane and engine are killed in each phase ends by itself, with nothing lost', async () => {
  const { migration } = await scenario.start()
  const killed: { phase: string; victims: Set<string> }[] = []
  for (;;) {
    const present = await scenario.until(
      migration!.id,
      ({ phase, state }) => state === 'COMPLETED' || state === 'FAILED' || !killed.some((kill) => kill.phase === phase),
    )
    if (present.state === 'COMPLETED' || present.state === 'FAILED') break
    const chosen = new Set<string>(victims[killed.length % victims.length])
    killed.push({ phase: present.phase, victims: chosen })
    const controlPlane = scenario.controlPlane()
    if (chosen.has('engine')) await killEngine(controlPlane)
    if (chosen.has('control plane')) {
      await killControlPlane(controlPlane)
      await scenario.restartControlPlane()
    }
  }

  const ended = await scenario.migration(migration!.id)
  expect(ended).toMatchObject({ state: 'COMPLETED', verified: true })
  // Phases that last milliseconds may pass unseen between two looks; the long ones can't.
  expect(killed.map(({ phase }) => phase)).toEqual(expect.arrayContaining(['INSTALL_AGENTS', 'SYNC', 'SEND_REMAINDER', 'HEALTH_CHECK']))
  scenario.records.moveTo(workloadEndpoint(ended, 8080))
  await scenario.records.stop()
  expect(await scenario.records.count()).toBe(scenario.records.acknowledged())
  expect((await scenario.source.connection.virtualMachines.describe({ vmId: scenario.vm.vmId })).power).toBe('STOPPED')
})
