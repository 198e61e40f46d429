/** What one run is to be, all of it drawn from its seed: the same seed and number give the same plan. */
import type { MigrationPhase } from '../../src/domain/migration.ts'
import { newestVersion, phaseList, phaseLists } from '../../src/workflows/phase-lists.ts'
import { randomNumbers } from '../support/random-numbers.ts'
import { faults } from './faults.ts'

export interface PlannedFault {
  name: string
  /** Injected so long after this phase was first seen, or a later one where it passed unseen. */
  phase: MigrationPhase
  delayMs: number
  healAfterMs: number
  /** Which way, for what has a direction. */
  direction: 1 | -1
}

export interface RunPlan {
  seed: string
  run: number
  from: 'east' | 'west'
  faults: PlannedFault[]
}

export const phases = phaseList(phaseLists, newestVersion(phaseLists)).map(({ name }) => name)

const latestDelayMs = 2_000
/** From a hiccup to longer than the agents are waited for. */
const healAfterMs = [500, 3_000, 10_000, 20_000, 45_000] as const

export function planRun(seed: string, run: number, only?: string): RunPlan {
  const random = randomNumbers(`${seed}/${run}`)
  const drawn = random.of(['east', 'west'] as const)
  const from = faults.find(({ name }) => name === only)?.needs ?? drawn
  const able = faults.filter(({ name, needs }) => (!only || name === only) && (!needs || needs === from))
  const [first, ...others] = random.shuffled(able)
  const second = random.below(2) === 1 ? others.find(({ acts }) => !acts || acts !== first?.acts) : undefined
  const planned = [first, second].filter((fault) => fault !== undefined)
  const moments = planned.map(({ name }) => ({
    name,
    phase: random.of(phases),
    delayMs: random.below(latestDelayMs + 1),
    healAfterMs: random.of(healAfterMs),
  }))
  return { seed, run, from, faults: moments.map((moment) => ({ ...moment, direction: random.of([1, -1] as const) })) }
}
