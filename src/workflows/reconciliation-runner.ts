/**
 * Makes of a verdict what is safe: looks, does the first of what is to be done, and looks again, until nothing is left or somebody has to be waited for. Nothing is remembered between
 * two looks but sentences, so it may be cut short anywhere and be done twice.
 *
 *   PENDING ─► WAITING ◄─► (looks again) ─► DONE | FAILED
 */
import { eq } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { reconciliations } from '../database/tables/reconciliation.ts'
import { conclude, restartsSource, type SafeAction } from '../domain/verdict-actions.ts'
import { ProviderError } from '../plugin-sdk/index.ts'
import { usualLimits } from '../plugin-sdk/registry/plugin-connection.ts'
import { failureOf } from './failure.ts'
import { reaffirmRecords } from './reaffirm-records.ts'
import { giveBack, perform, removeAgent } from './reconciliation-actions.ts'
import { waitSentence } from './reconciliation-sentence.ts'
import type { MachineVerdict, VerdictReader } from './verdict-reader.ts'
import { wait } from './wait.ts'

export type ReconciliationRow = typeof reconciliations.$inferSelect

export interface ReconciliationRunner {
  /** Works, or waits for no longer than a slice. Null once it has ended; also for one that nobody knows, since its database may have been lost. */
  advance(key: string): Promise<string | null>
  /** Looks at once at what waits. */
  wake(): void
  close(): Promise<void>
}

export interface ReconciliationTimings {
  firstLookMs: number
  maxLookMs: number
  sliceMs: number
  /** For one action that merges nothing. */
  actionMs: number
}

const defaultTimings: ReconciliationTimings = { firstLookMs: 2_000, maxLookMs: 30_000, sliceMs: 240_000, actionMs: 10 * 60_000 }
/** A merge that is cut short starts over. */
const merges: ReadonlySet<SafeAction> = new Set(['COMPLETE_RECORDS', 'RESUME_DESTINATION'])
const mergeMs = usualLimits.callTimeoutMs('destination.flattenOverlay')
const uninstallTimeoutMs = 60_000
/** A world that answers each deed by asking for another one is not what this is for. */
const maxDeedsALook = 12

/** The engine's key of one run. */
export function runKeyOf({ id, run }: Pick<ReconciliationRow, 'id' | 'run'>): string {
  return `${id}.${run}`
}

export function idOf(runKey: string): string {
  return runKey.slice(0, runKey.lastIndexOf('.'))
}

export function createReconciliationRunner(dependencies: {
  database: Database
  verdicts: VerdictReader
  timings?: Partial<ReconciliationTimings>
}): ReconciliationRunner {
  const { database, verdicts } = dependencies
  const timings = { ...defaultTimings, ...dependencies.timings }
  const running = new Map<string, Promise<string | null>>()
  const shutdown = new AbortController()
  let woken = new AbortController()

  async function read(id: string): Promise<ReconciliationRow | undefined> {
    return (await database.select().from(reconciliations).where(eq(reconciliations.id, id)))[0]
  }

  async function write(id: string, patch: Partial<ReconciliationRow>): Promise<void> {
    await database.write(
      (orm) => [
        orm
          .update(reconciliations)
          .set({ ...patch, updatedAt: new Date() })
          .where(eq(reconciliations.id, id)),
      ],
      [{ topic: 'RECONCILIATION', subject: id }],
    )
  }

  async function note(id: string, sentence: string): Promise<void> {
    await write(id, { done: [...((await read(id))?.done ?? []), sentence] })
  }

  async function look(row: ReconciliationRow): Promise<MachineVerdict> {
    const [verdict] = await verdicts.read({ migrationIds: [row.migrationId], at: row.cloudId }, shutdown.signal)
    const { standing } = verdict!
    await write(row.id, {
      verdict: standing.verdict,
      row: standing.row,
      ...(standing.source.fence === 'FENCED' && { sourceFenced: true }),
    })
    return verdict!
  }

  /** True once it has ended. */
  async function work(row: ReconciliationRow): Promise<boolean> {
    for (let deeds = 0; deeds < maxDeedsALook; deeds++) {
      const verdict = await look(row)
      // A later attempt of the same migration has begun: it is that one's to look after the machine.
      if (verdict.attempt !== row.attempt && verdict.standing.verdict !== 'UNKNOWN') return end(row, 'DONE', null)
      const conclusion = conclude(verdict.standing)
      if (conclusion.state !== 'WORK') return conclusionOf(row, verdict, conclusion.state)
      if (restartsSource(conclusion.does)) await write(row.id, { startOwed: true })
      await act(row, verdict, conclusion.does)
    }
    return pause(row, 'What was done did not last; it is looked at again.')
  }

  async function conclusionOf(row: ReconciliationRow, verdict: MachineVerdict, state: 'WAIT' | 'DONE' | 'STUCK'): Promise<boolean> {
    if (state === 'WAIT') return pause(row, waitSentence(verdict))
    if (state === 'STUCK') return end(row, 'FAILED', `${verdict.message} Nothing safe is left to be done by itself.`)
    return finish(row, verdict)
  }

  async function act(row: ReconciliationRow, verdict: MachineVerdict, actions: SafeAction[]): Promise<void> {
    let decided = verdict
    for (const action of actions) {
      const signal = AbortSignal.any([shutdown.signal, AbortSignal.timeout(merges.has(action) ? mergeMs : timings.actionMs)])
      if (!(await reaffirmRecords(decided, action, signal))) return
      try {
        await note(row.id, await perform(action, verdict, signal))
      } catch (error) {
        // It was committed in between: what is read next says so.
        if (action === 'ABANDON' && error instanceof ProviderError && error.code === 'CONFLICT') return
        throw error
      }
      if (action === 'ABANDON') decided = { ...verdict, standing: { ...verdict.standing, outcome: 'ABANDONED' } }
    }
  }

  async function finish(row: ReconciliationRow, verdict: MachineVerdict): Promise<boolean> {
    const { standing } = verdict
    // Whoever recorded that may have been cut short before he gave it back. One that runs by now was started by somebody.
    if (verdict.carriesBack && standing.outcome === 'ABANDONED' && standing.destination.power === 'STOPPED') {
      const signal = AbortSignal.any([shutdown.signal, AbortSignal.timeout(timings.actionMs)])
      if (!(await reaffirmRecords(verdict, 'NONE', signal)))
        return pause(row, 'Its records say something else by now; it is looked at again.')
      await giveBack(verdict, signal)
    }
    const didSomething = ((await read(row.id))?.done.length ?? 0) > 0
    // Whoever knows the migration removed it at its end, unless the source had been given up.
    const agentIsLeft = !standing.known || standing.sourceAttestedDead
    if (didSomething && agentIsLeft && standing.verdict === 'NOT_MIGRATED' && standing.source.power === 'RUNNING')
      await note(row.id, await removeAgent(verdict, AbortSignal.any([shutdown.signal, AbortSignal.timeout(uninstallTimeoutMs)])))
    shutdown.signal.throwIfAborted()
    return end(row, 'DONE', null)
  }

  async function end(row: ReconciliationRow, state: 'DONE' | 'FAILED', problem: string | null): Promise<true> {
    // One that failed may have taken the source's fence away: whoever comes next still owes it its start.
    await write(row.id, { state, problem, ...(state === 'DONE' && { startOwed: false }), endedAt: new Date() })
    return true
  }

  async function pause(row: ReconciliationRow, problem: string): Promise<false> {
    await write(row.id, { state: 'WAITING', problem })
    return false
  }

  async function slice(key: string): Promise<string | null> {
    const deadline = performance.now() + timings.sliceMs
    for (let delayMs = timings.firstLookMs; ; delayMs = Math.min(delayMs * 2, timings.maxLookMs)) {
      const row = await read(idOf(key))
      if (!row || row.state === 'DONE' || row.state === 'FAILED' || runKeyOf(row) !== key) return null
      const { signal } = woken
      try {
        if (await work(row)) return null
      } catch (error) {
        shutdown.signal.throwIfAborted()
        const failure = failureOf(error)
        const mayPass =
          failure.retryable || failure.code === 'CLOUD_UNREACHABLE' || failure.code === 'TIMED_OUT' || failure.code === 'INTERNAL'
        if (!mayPass) {
          await end(row, 'FAILED', `${failure.message} ${failure.remedy}`)
          return null
        }
        await pause(row, `${failure.message} It is tried again.`)
      }
      if (performance.now() > deadline) return 'LOOK'
      await wait(delayMs, AbortSignal.any([shutdown.signal, signal])).catch(() => shutdown.signal.throwIfAborted())
    }
  }

  return {
    advance(key) {
      let mine = running.get(key)
      if (!mine) {
        mine = slice(key).finally(() => running.delete(key))
        mine.catch(() => {})
        running.set(key, mine)
      }
      return mine
    },
    wake() {
      woken.abort()
      woken = new AbortController()
    },
    async close() {
      shutdown.abort(new Error('The control plane is ending; the reconciliation goes on when it is back.'))
      await Promise.allSettled(running.values())
    },
  }
}
