import type { AgentGateway } from '../agent-gateway/gateway.ts'
import type { CloudConnections } from './cloud-connections.ts'
import { pausedOccupation, type Occupation } from '../domain/phase-activity.ts'
import type { FreezeLeases } from './freeze-leases.ts'
import { notCopying, type MigrationRow, type MigrationStore, type StepRow } from './migration-store.ts'
import type { MigrationSettings } from './migration-settings.ts'
import type { PhaseLists } from './phase-lists.ts'
import type { Phase, PhaseContext, PhaseResults } from './phase.ts'
import { wait } from './wait.ts'

export interface PhaseDependencies {
  store: MigrationStore
  clouds: Pick<CloudConnections, 'connection'>
  gateway: Pick<AgentGateway, 'openMigration' | 'closeMigration'>
  leases: FreezeLeases
  settings: MigrationSettings
  phaseLists: PhaseLists
}

export function createPhaseContext(
  dependencies: PhaseDependencies,
  from: {
    migration: MigrationRow
    steps: StepRow[]
    phase: Phase
    /** The step to undo; absent where the phase is done. */
    undoing?: StepRow
    repeated: boolean
    signal: AbortSignal
  },
): PhaseContext {
  const { store, clouds, gateway, leases, settings } = dependencies
  const { phase, signal, repeated } = from
  const { id, attempt } = from.migration
  let migration = from.migration
  const prefix = from.undoing
    ? `${id}.${attempt}.${from.undoing.switchover}.${phase.name}.undo`
    : `${id}.${attempt}.${migration.switchover}.${phase.name}`

  async function reread(): Promise<MigrationRow> {
    migration = await store.read(id)
    return migration
  }

  const results = resultsOf(from.undoing ? from.steps.filter((step) => step.phase !== phase.name || step === from.undoing) : from.steps)
  let occupation: PhaseContext['occupation'] = null

  async function during<T>(what: Occupation, work: () => Promise<T>): Promise<T> {
    occupation = { what, since: performance.now() }
    try {
      return await work()
    } finally {
      occupation = null
    }
  }

  return {
    get migration() {
      return migration
    },
    reread,
    signal,
    repeated,
    during,
    get occupation() {
      return occupation
    },
    operationId: (call) => `${prefix}.${call}`,
    results,
    async keep(name, result, patch) {
      const switchover = from.steps.findLast((step) => step.phase === name)?.switchover ?? migration.switchover
      await store.write(migration, { ...(patch && { patch }), step: { phase: name, switchover, result: { ...result } } })
      results[name] = result
    },
    source: () => clouds.connection(migration.sourceCloudId, signal),
    destination: () => clouds.connection(migration.destinationCloudId, signal),
    agents: () => gateway.openMigration(id),
    store,
    leases,
    settings,
    note: (message) => store.write(migration, { events: [{ kind: 'NOTICE', phase: phase.name, message }] }),
    async holdWhilePaused() {
      const { desired, state } = await reread()
      // One that is PAUSED all the same was resumed, or cancelled, while no control plane ran it.
      if (desired !== 'PAUSE' && state !== 'PAUSED') return false
      if (desired === 'PAUSE') {
        await store.write(migration, {
          patch: { state: 'PAUSED', ...notCopying },
          events: [
            { kind: 'STATE_CHANGED', phase: phase.name, message: 'Paused by the operator; changes in the source are still tracked.' },
          ],
        })
        await during(pausedOccupation, async () => {
          while ((await reread()).desired === 'PAUSE') await wait(settings.timings.pollMs, signal)
        })
      }
      await store.write(migration, {
        patch: { state: 'RUNNING' },
        events: [{ kind: 'STATE_CHANGED', phase: phase.name, message: 'Goes on.' }],
      })
      return true
    },
  }
}

/** The newest of each phase: steps come in order of their switchovers. */
export function resultsOf(steps: readonly StepRow[]): Partial<PhaseResults> {
  return Object.fromEntries(steps.flatMap(({ phase, result }) => (result ? [[phase, result]] : [])))
}
