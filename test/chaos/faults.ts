/** The faults of the campaign, as data. Each is injected into one run, and gives the function that heals it. */
import { killControlPlane } from '../support/kill.ts'
import type { Stage } from './stage.ts'

export type FaultName = 'control plane killed'

export interface Fault {
  name: FaultName
  /** Where the source has to be for it to be possible. */
  needs?: 'east' | 'west'
  inject(stage: Stage): Promise<() => Promise<void>>
}

export const faults: readonly Fault[] = [
  {
    name: 'control plane killed',
    async inject(stage) {
      await killControlPlane(stage.scenario.controlPlane())
      return () => stage.restartControlPlane()
    },
  },
]
