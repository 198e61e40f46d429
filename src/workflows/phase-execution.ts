/** Runs one phase, or its undo: time-out, cancellation, retries. Whatever happens, it returns or throws only after the phase's own code has ended. */
import { isDatabaseFault } from '../database/database-fault.ts'
import { PortolanError } from '../domain/errors.ts'
import { ProviderError } from '../plugin-sdk/index.ts'
import { failureOf, isOutOfReach } from './failure.ts'
import type { MigrationRow, NewEvent, StepRow } from './migration-store.ts'
import { runHooks } from './hooks.ts'
import { createPhaseContext, type PhaseDependencies } from './phase-context.ts'
import { startHeartbeat } from './phase-heartbeat.ts'
import { done, givenUpAfterMs, type Phase, type PhaseContext, type PhaseOutcome } from './phase.ts'
import { isOff } from './phases/phase-facts.ts'
import { sourceIsOff } from './source-off.ts'
import { standingAtDestination, type StandingAtDestination } from './standing-at-destination.ts'
import { wait } from './wait.ts'
import { isDestinationOff } from './while-machine-runs.ts'

/** The control plane ends: the phase stops where it is, and is repeated by whoever comes next. */
export class ShuttingDown extends Error {
  override readonly message = 'The control plane is ending; the migration goes on when it is back.'
}

type Outcome = PhaseOutcome | { outcome: 'FAILED'; error: PortolanError }

interface Run {
  migration: MigrationRow
  steps: StepRow[]
  phase: Phase
  shutdown: AbortSignal
}

/** `next`: what comes after it. Throws only ShuttingDown, and faults of the database. */
export async function runPhase(
  dependencies: PhaseDependencies,
  run: Run & { repeated: boolean; next?: Phase | undefined },
): Promise<Outcome> {
  const { phase, next, migration, shutdown } = run
  const { store, settings } = dependencies
  const abort = new AbortController()
  const stop = () => abort.abort(shutdown.reason)
  if (shutdown.aborted) stop()
  shutdown.addEventListener('abort', stop)
  const stopWatching = cancellable(phase)
    ? watchForCancel(
        () => store.read(migration.id),
        settings.timings.pollMs,
        () => abort.abort(cancelled(migration)),
      )
    : () => {}
  let deadline: NodeJS.Timeout | undefined
  let retried: PortolanError | null = null
  const context = createPhaseContext(dependencies, { ...run, signal: abort.signal })
  const told = { name: phase.name, timeoutMs: givenUpAfterMs(phase, migration) }
  const stopHeartbeat = startHeartbeat(store, migration, told, { context })
  try {
    if (migration.state === 'PENDING') await store.write(migration, { patch: { state: 'RUNNING', startedAt: new Date() } })
    if (phase.control === 'PAUSABLE') await context.holdWhilePaused()
    // A hook has a time-out of its own.
    if (!isCommitting(phase)) await runHooks(context, phase.name, 'BEFORE')
    if (phase.timeoutMs !== null)
      deadline = setTimeout(
        () => abort.abort(timedOut(phase.name, phase.timeoutMs ?? 0, 'so the migration is undone', retried)),
        phase.timeoutMs,
      )
    const outcome = await withRetries(
      dependencies,
      context,
      phase,
      () => phase.do(context),
      (failure) => (retried = failure),
    )
    clearTimeout(deadline)
    if (outcome.outcome === 'DONE') {
      await runHooks(context, phase.name, 'AFTER')
      // Here, since from the next phase on nobody can cancel: a hook may take hours, and the service stands still.
      if (next && isCommitting(next)) await runHooks(context, next.name, 'BEFORE')
    }
    return outcome
  } catch (error) {
    if (shutdown.aborted) throw new ShuttingDown()
    // What was to be written down could not be: the phase is repeated once it can.
    if (isDatabaseFault(error)) throw error
    // It tries again for ever, so what it throws is a fault of the database: there is no way back that this could begin.
    if (phase.control === 'FORWARD_ONLY') throw error
    return { outcome: 'FAILED', error: failureOf(abort.signal.aborted ? abort.signal.reason : error) }
  } finally {
    clearTimeout(deadline)
    stopWatching()
    await stopHeartbeat()
    shutdown.removeEventListener('abort', stop)
  }
}

/** Asks until there is an answer: nothing is done or undone before. */
export async function askDestination(dependencies: PhaseDependencies, run: Run): Promise<StandingAtDestination> {
  const { phase, migration } = run
  const { store, settings } = dependencies
  const stopHeartbeat = startHeartbeat(store, migration, phase, { undoing: migration.direction !== 'FORWARD' })
  try {
    for (let delayMs = settings.timings.firstRetryMs; ; delayMs = Math.min(delayMs * 2, settings.timings.maxRetryMs)) {
      const signal = AbortSignal.any([run.shutdown, AbortSignal.timeout(settings.timings.undoMs)])
      try {
        return await standingAtDestination(createPhaseContext(dependencies, { ...run, repeated: true, signal }))
      } catch (error) {
        if (run.shutdown.aborted) throw new ShuttingDown()
        const problem = `Before the migration goes on, its destination has to say whether it holds a commit of it, and is asked again: ${failureOf(error).message}`
        await store.write(migration, { patch: { problem } })
        await wait(delayMs, run.shutdown)
      }
    }
  } finally {
    await stopHeartbeat()
  }
}

/** GIVEN_UP: what it did at the source was left there, since that is out of reach or gone, and attested dead. COMMITTED: nothing may be undone any more. */
type Undone = 'UNDONE' | 'GIVEN_UP' | 'COMMITTED'

/** Repeats the undo until it succeeds. */
export async function undoPhase(dependencies: PhaseDependencies, run: Run & { step: StepRow }): Promise<Undone> {
  const { phase, migration, step } = run
  const { store, settings } = dependencies
  const mark = { phase: phase.name, switchover: step.switchover }
  await store.write(migration, {
    step: { ...mark, state: 'UNDOING' },
    events: step.state === 'UNDOING' ? [] : [{ kind: 'UNDO', phase: phase.name, message: `${phase.name} is undone.` }],
  })
  const undoTimeoutMs = phase.undoTimeoutMs ?? settings.timings.undoMs
  const stopHeartbeat = startHeartbeat(store, migration, phase, { undoing: true })
  try {
    return await undoUntilDone()
  } finally {
    await stopHeartbeat()
  }

  async function undoUntilDone(): Promise<Undone> {
    for (let delayMs = settings.timings.firstRetryMs; ; delayMs = Math.min(delayMs * 2, settings.timings.maxRetryMs)) {
      const signal = AbortSignal.any([run.shutdown, AbortSignal.timeout(undoTimeoutMs)])
      try {
        const answer = await phase.undo?.(
          createPhaseContext(dependencies, { ...run, undoing: step, repeated: step.state === 'UNDOING', signal }),
        )
        if (answer === 'COMMITTED') return answer
        await store.write(migration, { step: { ...mark, state: 'UNDONE', endedAt: new Date() } })
        return 'UNDONE'
      } catch (thrown) {
        if (run.shutdown.aborted) throw new ShuttingDown()
        const error = signal.aborted ? timedOut(`Undoing ${phase.name}`, undoTimeoutMs, 'and is tried again') : thrown
        if (await isGivenUp(dependencies, migration, phase, error)) {
          await store.write(migration, { step: { ...mark, state: 'UNDONE', endedAt: new Date() }, events: [givenUp(phase)] })
          return 'GIVEN_UP'
        }
        const problem = `Undoing ${phase.name} did not work yet, and is tried again: ${failureOf(error).message}`
        await store.write(migration, { patch: { problem } })
        await wait(delayMs, run.shutdown)
      }
    }
  }
}

/** The source is attested dead, and can't be reached or is gone: what was done to it stays, and what it finds should it return is decided by its verdict. */
async function isGivenUp({ settings }: PhaseDependencies, migration: MigrationRow, phase: Phase, error: unknown): Promise<boolean> {
  const isGone = error instanceof ProviderError && error.code === 'NOT_FOUND'
  return phase.atSource === true && (isGone || isOutOfReach(error)) && (await settings.attestedDead(migration))
}

function givenUp(phase: Phase): NewEvent {
  const message = `${phase.name} is left as it is at the source, which can't be reached or is gone, and was attested dead. Should it return, its verdict says what is to be done.`
  return { kind: 'NOTICE', phase: phase.name, message }
}

async function withRetries(
  dependencies: PhaseDependencies,
  context: PhaseContext,
  phase: Phase,
  work: () => Promise<PhaseOutcome>,
  onRetry: (failure: PortolanError) => void,
): Promise<PhaseOutcome> {
  const { timings } = context.settings
  let offSince: number | null = null
  for (let delayMs = timings.firstRetryMs; ; delayMs = Math.min(delayMs * 2, timings.maxRetryMs)) {
    try {
      return await work()
    } catch (error) {
      if (context.signal.aborted) throw error
      const failure = failureOf(error)
      if (phase.control === 'FORWARD_ONLY' && (await isGivenUp(dependencies, context.migration, phase, error))) {
        await context.store.write(context.migration, { events: [givenUp(phase)] })
        return done
      }
      if (phase.underLease && failure.retryable) return { outcome: 'VOID', reason: failure.message, ownFault: true, code: failure.code }
      if (phase.ownRetries || isDestinationOff(error) || (phase.control !== 'FORWARD_ONLY' && !failure.retryable)) throw error
      onRetry(failure)
      offSince = phase.needsSourceGuest && (await isOff(context, 'SOURCE')) ? (offSince ?? performance.now()) : null
      if (offSince !== null && performance.now() - offSince >= timings.lostMs) throw sourceIsOff()
      await context.store.write(context.migration, { patch: { problem: `${failure.message} It is tried again.` } })
      await wait(delayMs, context.signal)
    }
  }
}

function isCommitting({ control }: Phase): boolean {
  return control === 'COMMITTING'
}

function cancellable(phase: Phase): boolean {
  return phase.control === 'PAUSABLE' || phase.control === 'CANCELLABLE'
}

function watchForCancel(read: () => Promise<MigrationRow>, pollMs: number, onCancel: () => void): () => void {
  const timer = setInterval(() => {
    read().then(
      ({ desired }) => desired === 'CANCEL' && onCancel(),
      // The next look tries again; a database that stays away stops the phase at its next write.
      () => {},
    )
  }, pollMs)
  return () => clearInterval(timer)
}

function cancelled({ id }: MigrationRow): PortolanError {
  return new PortolanError('CANCELLED', `Migration ${id} was cancelled by its operator.`, {
    retryable: false,
    remedy: 'Start another migration when you want to.',
  })
}

/** `retried`: what its tries ended with last. */
function timedOut(what: string, timeoutMs: number, consequence: string, retried: PortolanError | null = null): PortolanError {
  const why = retried ? ` It was tried again until then, since: ${retried.message}` : ''
  return new PortolanError('TIMED_OUT', `${what} did not end within ${timeoutMs / 1000} s, ${consequence}.${why}`, {
    retryable: true,
    remedy: retried?.remedy ?? "See the migration's events for what it waited for, then retry it.",
  })
}
