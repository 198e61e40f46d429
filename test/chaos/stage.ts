import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { connectCloud } from '../../src/cli/demo-migration.ts'
import { killControlPlane } from '../support/kill.ts'
import type { ScenarioSite } from '../support/scenario-site.ts'
import type { ChaosSite } from './chaos-site.ts'
import { nothingSeen, type SeenDuringFaults } from './seen-during-faults.ts'

/** What faults act on: one run's machines, the sites that they are at, and the run's control plane, which several faults may want to start again. */
export interface Stage {
  scenario: ScenarioSite
  site: ChaosSite
  /** Ends the control plane where it runs, and starts it on the same data; one after the other. */
  restartControlPlane(): Promise<void>
  /** Kills the control plane and removes its database; another start makes an empty one. */
  loseDatabase(): Promise<void>
  /** Starts the control plane and connects both clouds anew. */
  startWithEmptyDatabase(): Promise<void>
  seenDuringFaults: SeenDuringFaults
  /** Whatever was known by the control plane's ids is not any more. */
  databaseWasLost(): boolean
}

export function createStage(scenario: ScenarioSite, site: ChaosSite): Stage {
  let queue: Promise<void> = Promise.resolve()
  const inTurn = (work: () => Promise<void>) => {
    const turn = queue.then(work)
    queue = turn.catch(() => {})
    return turn
  }
  let lost = false
  return {
    scenario,
    site,
    restartControlPlane: () => inTurn(() => scenario.restartControlPlane()),
    loseDatabase: () =>
      inTurn(async () => {
        lost = true
        await killControlPlane(scenario.controlPlane())
        const data = join(scenario.directory, 'data')
        for (const name of await readdir(data)) if (name.startsWith('portolan.db')) await rm(join(data, name))
      }),
    startWithEmptyDatabase: () =>
      inTurn(async () => {
        await scenario.restartControlPlane()
        for (const cloud of [site.demo.east, site.demo.west]) await untilConnected(scenario, cloud)
      }),
    seenDuringFaults: nothingSeen(),
    databaseWasLost: () => lost,
  }
}

const connectsWithinMs = 240_000

/** Its site may be out of reach at the moment, by the run's other fault. */
async function untilConnected(scenario: ScenarioSite, cloud: ScenarioSite['source']): Promise<void> {
  for (const deadline = performance.now() + connectsWithinMs; ;) {
    try {
      return await connectCloud(scenario.api(), cloud)
    } catch (error) {
      if (/already/i.test(String(error))) return
      if (performance.now() > deadline) throw error
      await new Promise((later) => setTimeout(later, 2_000))
    }
  }
}
