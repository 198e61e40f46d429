/**
 * Takes a migration through its list of phases. The single writer of its rows.
 *
 *   FORWARD:       enter -> do -> DONE -> next ... -> COMPLETED
 *   BACK_TO_SYNC:  undo, undo, ... down to SYNC, which goes on in the next switchover    (a voided switchover)
 *   BACK_TO_START: undo, undo, ... -> FAILED or CANCELLED                                 (before the commit only)
 *
 * What was done is in the database (migration_steps) before the next thing begins, so any process may go on from there. Within this process a
 * migration has at most one phase running: whoever asks again, the engine after a crash of its own for instance, joins it.
 */
import type { PortolanError } from '../domain/errors.ts'
import { isEnded } from '../domain/operator-actions.ts'
import { notCopying, type MigrationPatch, type MigrationRow, type StepRow } from './migration-store.ts'
import { migrationIdOf, runKey } from './migration-workflow.ts'
import { askDestination, runPhase, ShuttingDown, undoPhase } from './phase-execution.ts'
import type { PhaseDependencies } from './phase-context.ts'
import { phaseList } from './phase-lists.ts'
import { outdated, sourceAttestedDead, voidedTooOften } from './phase-runner-errors.ts'
import { givenUpAfterMs, type Phase, type PhaseOutcome } from './phase.ts'
import { commitOf, isBeforeCommit, mustBeKnown, nextPosition, positionOf, stepOf } from './run-position.ts'
import { wait } from './wait.ts'

export interface PhaseRunner {
  /**
   * Of the run that the key names, begins what comes next, or joins it, and waits for its end, but no longer than a slice. Returns the name of the next step (the same one when it hasn't ended
   * yet), and null once that run has ended. Rejects on faults that are not the migration's, such as a full disk: ask again.
   */
  advance(key: string): Promise<string | null>
  /** Stops what runs, without undoing anything, and waits for its end. */
  close(): Promise<void>
}

/** So often a switchover may be voided by what happens in it, before the migration fails. */
const maxVoidedSwitchovers = 5

export function createPhaseRunner(dependencies: PhaseDependencies): PhaseRunner {
  const { store, gateway, leases, settings } = dependencies
  const running = new Map<string, Promise<string | null>>()
  /** The runs of which this process knows that the destination holds no more than their rows say: it has begun them, or has asked. */
  const known = new Set<string>()
  const shutdown = new AbortController()

  async function transition(key: string): Promise<string | null> {
    const migration = await store.find(migrationIdOf(key))
    // No row: the database was lost, and the engine's journal wasn't. What the clouds' records say is reconciled on the operator's word.
    // A later run may be another engine's: the end of this one was written, and only its answer was lost.
    if (!migration || isEnded(migration.state) || runKey(migration) !== key) return null
    const list = phaseList(dependencies.phaseLists, migration.phaseListVersion)
    const steps = await store.steps(migration)
    if (migration.state === 'PENDING') known.add(key)
    const position = nextPosition(list, migration, steps)
    if (!known.has(key) && mustBeKnown(list, position, migration, steps)) {
      const standing = await askDestination(dependencies, { migration, steps, phase: list[position]!, shutdown: shutdown.signal })
      if (standing === 'OUTDATED') return endOutdated(migration)
      if (standing === 'COMMITTED' && isBeforeCommit(list, position, migration)) return goOnCommitted(migration, list)
      known.add(key)
    }
    return migration.direction === 'FORWARD' ? forward(migration, list, steps) : backward(migration, list, steps)
  }

  async function forward(migration: MigrationRow, list: readonly Phase[], steps: StepRow[]): Promise<string | null> {
    const step = stepOf(migration, steps)
    const position = nextPosition(list, migration, steps)
    const phase = list[position]
    if (!phase) return complete(migration)
    if (step?.state !== 'DOING') {
      const told = { name: phase.name, timeoutMs: givenUpAfterMs(phase, migration) }
      const entered = await store.enter(migration, told, [{ kind: 'PHASE_STARTED', phase: phase.name, message: `${phase.name} begins.` }])
      if (!entered) return cancel(migration)
    }
    const entered = await store.read(migration.id)
    const outcome = await runPhase(dependencies, {
      migration: entered,
      steps,
      phase,
      next: list[position + 1],
      repeated: step?.state === 'DOING',
      shutdown: shutdown.signal,
    })
    switch (outcome.outcome) {
      case 'DONE':
        await store.write(entered, {
          patch: { problem: null },
          step: {
            phase: phase.name,
            state: 'DONE',
            endedAt: new Date(),
            result: (outcome.result as Record<string, unknown> | undefined) ?? null,
          },
          events: [{ kind: 'PHASE_ENDED', phase: phase.name, message: `${phase.name} is done.` }],
        })
        return list[position + 1]?.name ?? 'END'
      case 'VOID':
        return voidSwitchover(entered, phase, outcome)
      case 'REFUSED':
        return refuse(entered, phase, outcome)
      case 'FAILED':
        return outcome.error.code === 'CANCELLED' && entered.phase === phase.name && (await store.read(migration.id)).desired === 'CANCEL'
          ? cancel(entered)
          : fail(entered, phase, outcome.error)
    }
  }

  async function voidSwitchover(
    migration: MigrationRow,
    phase: Phase,
    { reason, ownFault, code, result }: Extract<PhaseOutcome, { outcome: 'VOID' }>,
  ): Promise<string> {
    const voidedSwitchovers = migration.voidedSwitchovers + (ownFault ? 1 : 0)
    if (voidedSwitchovers > maxVoidedSwitchovers) return fail(migration, phase, voidedTooOften(voidedSwitchovers, reason, code))
    await store.write(migration, {
      patch: { direction: 'BACK_TO_SYNC', voidedSwitchovers, problem: reason, ...notCopying },
      ...(result === undefined ? {} : { step: { phase: phase.name, result: { ...result } } }),
      events: [
        {
          kind: 'PHASE_FAILED',
          phase: phase.name,
          message: `This switchover is void: ${reason} The source goes on, and the rounds with it.`,
        },
      ],
    })
    return undoLabel(phase)
  }

  async function fail(migration: MigrationRow, phase: Phase, error: PortolanError): Promise<string> {
    await store.write(migration, {
      patch: {
        // It may have been PAUSED.
        state: 'RUNNING',
        direction: 'BACK_TO_START',
        endState: 'FAILED',
        ...errorPatch(error),
        problem: null,
        ...notCopying,
      },
      events: [{ kind: 'PHASE_FAILED', phase: phase.name, message: error.message }],
    })
    return undoLabel(phase)
  }

  async function refuse(
    migration: MigrationRow,
    phase: Phase,
    { error, state }: Extract<PhaseOutcome, { outcome: 'REFUSED' }>,
  ): Promise<null> {
    await store.end(
      migration,
      { state, endState: null, problem: null, ...errorPatch(error) },
      { kind: 'PHASE_FAILED', phase: phase.name, message: error.message },
      phase.name,
    )
    return null
  }

  async function cancel(migration: MigrationRow): Promise<string> {
    await store.write(migration, {
      patch: { state: 'RUNNING', direction: 'BACK_TO_START', endState: 'CANCELLED', problem: null, ...notCopying },
      events: [{ kind: 'STATE_CHANGED', phase: migration.phase, message: 'Cancelled by the operator; what was done is undone.' }],
    })
    return `${migration.phase} undo`
  }

  async function complete(migration: MigrationRow): Promise<null> {
    const state = migration.endState ?? 'COMPLETED'
    await gateway.closeMigration(migration.id)
    const message =
      state === 'ROLLED_BACK'
        ? `The source runs again, as it was at the freeze; what was written at the destination since ${migration.exposedAt?.toISOString() ?? 'the cut-over'} ${migration.copyKept ? 'is in its disks there only' : 'went with its machine there'}.`
        : 'The migration is complete.'
    await store.end(migration, { state, endState: null }, { kind: 'STATE_CHANGED', message })
    return null
  }

  async function backward(migration: MigrationRow, list: readonly Phase[], steps: StepRow[]): Promise<string | null> {
    // The way back needs no freeze: whoever renewed its lease would hold the source's writes until its site answers again.
    leases.dropAllOf(migration.id)
    const position = positionOf(list, migration)
    const phase = list[position]!
    const step = steps.findLast((candidate) => candidate.phase === phase.name)
    if (phase.undo && step && step.state !== 'UNDONE') {
      const undone = await undoPhase(dependencies, { migration, steps, phase, step, shutdown: shutdown.signal })
      if (undone === 'COMMITTED') return goOnCommitted(migration, list)
      // There is no source to go on from: its fence keeps it off until its verdict is acted on, which waits for the end of this.
      if (undone === 'GIVEN_UP' && migration.direction === 'BACK_TO_SYNC')
        return (await store.read(migration.id)).desired === 'CANCEL' ? cancel(migration) : fail(migration, phase, sourceAttestedDead())
    }
    const previous = list[position - 1]
    if (!previous) return endUndone(migration)
    if (migration.direction === 'BACK_TO_SYNC' && previous.name === 'SYNC') {
      await store.write(migration, {
        patch: {
          direction: 'FORWARD',
          phase: 'SYNC',
          switchover: migration.switchover + 1,
          sourceRoot: null,
          destinationRoot: null,
          problem: null,
        },
      })
      return 'SYNC'
    }
    await store.write(migration, { patch: { phase: previous.name, problem: null } })
    return undoLabel(previous)
  }

  async function goOnCommitted(migration: MigrationRow, list: readonly Phase[]): Promise<string> {
    await store.write(migration, {
      patch: {
        phase: 'COMMIT',
        direction: 'FORWARD',
        // A cancel that was asked for before anybody knew comes too late, as it does for every commit.
        desired: 'RUN',
        endState: null,
        errorCode: null,
        errorMessage: null,
        errorRemedy: null,
        errorRetryable: null,
        problem: null,
      },
      step: { phase: 'COMMIT', state: 'DONE', endedAt: new Date() },
      events: [{ kind: 'NOTICE', phase: 'COMMIT', message: 'The destination holds the commit record, so the migration goes on forward.' }],
    })
    return list[commitOf(list) + 1]?.name ?? 'END'
  }

  /** Nothing at either site is this attempt's to touch any more, what it kept least of all. */
  async function endOutdated(migration: MigrationRow): Promise<null> {
    await gateway.closeMigration(migration.id)
    const error = outdated(migration)
    await store.end(
      migration,
      { state: 'FAILED', endState: null, copyKept: false, destinationVirtualMachineId: null, ...errorPatch(error) },
      { kind: 'STATE_CHANGED', message: error.message },
    )
    return null
  }

  async function endUndone(migration: MigrationRow): Promise<null> {
    const state = migration.endState ?? 'FAILED'
    await gateway.closeMigration(migration.id)
    const left = leftAtDestination(migration)
    const source = (await settings.attestedDead(migration))
      ? 'what becomes of the source, which was attested dead, its verdict says'
      : 'the source is as it was'
    await store.end(
      migration,
      { state, endState: null },
      { kind: 'STATE_CHANGED', message: `The migration is ${state}: ${source}, and ${left}.` },
    )
    return null
  }

  return {
    async advance(key) {
      const id = migrationIdOf(key)
      let mine = running.get(key)
      if (!mine) {
        mine = transition(key).finally(() => running.delete(key))
        mine.then(
          (next) => next === null && known.delete(key),
          // The database is away, so nothing can be undone: whoever renews the lease meanwhile would hold the source's writes for as long.
          () => leases.dropAllOf(id),
        )
        running.set(key, mine)
      }
      const slice = new AbortController()
      try {
        return await Promise.race([
          mine,
          wait(settings.timings.sliceMs, slice.signal).then(async () => {
            const { phase, direction } = await store.read(id)
            return direction === 'FORWARD' ? phase : `${phase} undo`
          }),
        ])
      } finally {
        slice.abort()
      }
    },
    async close() {
      shutdown.abort(new ShuttingDown())
      await Promise.allSettled(running.values())
    },
  }
}

function leftAtDestination({ copyKept, rollsBackMigrationId }: MigrationRow): string {
  if (rollsBackMigrationId !== null) return 'the machine that its writes were to go to is off, as it was left'
  return copyKept
    ? 'what was copied is kept at the destination, powered off, for a retry or until it is discarded'
    : 'nothing is left at the destination'
}

function errorPatch({ code, message, remedy, retryable }: PortolanError): MigrationPatch {
  return { errorCode: code, errorMessage: message, errorRemedy: remedy, errorRetryable: retryable }
}

function undoLabel(phase: Phase): string {
  return `${phase.name} undo`
}
