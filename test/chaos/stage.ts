import type { ScenarioSite } from '../support/scenario-site.ts'

/** What faults act on: one run's machines, and its control plane, which several faults may want to start again. */
export interface Stage {
  scenario: ScenarioSite
  /** Ends the control plane where it runs, and starts it on the same data; one after the other. */
  restartControlPlane(): Promise<void>
  /** Set once the database is gone: whatever was known by the control plane's ids is not any more. */
  databaseLost: boolean
}

export function createStage(scenario: ScenarioSite): Stage {
  let queue: Promise<void> = Promise.resolve()
  return {
    scenario,
    databaseLost: false,
    restartControlPlane() {
      queue = queue.catch(() => {}).then(() => scenario.restartControlPlane())
      return queue
    },
  }
}
