/**
 * Test boots of the copy while a migration waits for its cutover. The source is frozen for the moment of one small round (see copy-of-one-moment.ts); it thaws before
 * anything boots. Then another VM boots from an overlay of the copy, isolated, while syncing goes on into an overlay of its own.
 *
 * A test boot never ends the migration. How it went is stored before it is removed, so that a removal that fails is tried again, here or by the next control plane.
 */
import { copyOfOneMoment } from './copy-of-one-moment.ts'
import { failureOf } from './failure.ts'
import type { MigrationTestRow } from './migration-test-store.ts'
import type { PhaseContext } from './phase.ts'
import { destinationVmId } from './phases/phase-facts.ts'
import { untilHealthy } from './until-healthy.ts'

export interface MigrationTests {
  /** What is in the way of beginning or removing one: a sentence. While it is there nothing may cut over. */
  readonly problem: string | null
  /** Between two rounds: removes what was left, and begins what was asked for where it may, unless one runs. Only an abort is thrown. */
  step(mayBegin: boolean): Promise<void>
  /** Ends what runs, and removes it. False where that did not work yet. */
  end(reason: string): Promise<boolean>
  /** Ends what runs; what it leaves is removed by `endOpenTests`. */
  stop(reason: string): Promise<void>
}

export const endedByCutover = 'The cutover came before the test had ended.'

const restarted = 'The control plane was restarted meanwhile; ask for another test.'

export function createMigrationTests(context: PhaseContext): MigrationTests {
  const tests = context.settings.migrationTests
  let running: { stop: AbortController; ended: Promise<void> } | null = null
  let problem: string | null = null

  async function begin(pending: MigrationTestRow): Promise<void> {
    const { testBoot } = (await context.destination()).destination
    if (!testBoot) return conclude(context, pending, "The destination's provider has no test boot.")
    const test = await tests.write(pending, { state: 'RUNNING' })
    try {
      const frozenMs = await copyOfOneMoment(context)
      if (frozenMs === null) return void (await tests.write(test, { state: 'PENDING' }))
      const { vmId } = await testBoot.start({
        operationId: `${test.id}.start`,
        vmId: destinationVmId(context),
        testId: test.id,
        inboundPorts: [context.migration.request.healthCheck.port],
        signal: context.signal,
      })
      await tests.write(test, { frozenMs })
      const stop = new AbortController()
      const ended = watch(test, vmId, AbortSignal.any([context.signal, stop.signal])).finally(() => (running = null))
      // What it could not remove is removed by whoever looks next.
      ended.catch(() => {})
      running = { stop, ended }
    } catch (error) {
      context.signal.throwIfAborted()
      await conclude(context, await tests.write(test, { problem: messageOf(error) }), restarted)
    }
  }

  async function watch(test: MigrationTestRow, vmId: string, signal: AbortSignal): Promise<void> {
    const bootedAt = Date.now()
    let outcome: { healthyAfterMs: number } | { problem: string }
    try {
      outcome = { healthyAfterMs: (await untilHealthy(context, vmId, context.migration.request.healthCheck, signal)) - bootedAt }
    } catch (error) {
      // The control plane ends: the next one removes it.
      context.signal.throwIfAborted()
      outcome = { problem: messageOf(signal.aborted ? signal.reason : error) }
    }
    const console = await consoleOf(context, vmId)
    await conclude(context, await tests.write(test, { ...outcome, console }), restarted)
  }

  async function attempt(work: () => Promise<void>): Promise<boolean> {
    try {
      await work()
      problem = null
    } catch (error) {
      context.signal.throwIfAborted()
      problem = `The test boot could not be begun or removed yet: ${failureOf(error).message} It is tried again; until it is gone the migration does not cut over.`
    }
    return problem === null
  }

  async function stop(reason: string): Promise<void> {
    running?.stop.abort(new Error(reason))
    await running?.ended.catch(() => {})
  }

  return {
    get problem() {
      return problem
    },
    async step(mayBegin) {
      if (running) return
      await attempt(async () => {
        const open = await tests.open(context.migration)
        // Begun by a control plane before us, or not removed yet.
        const left = open.find(({ state }) => state === 'RUNNING')
        if (left) await conclude(context, left, restarted)
        const next = open.find(({ state }) => state === 'PENDING')
        if (next && mayBegin) await begin(next)
      })
    },
    async end(reason) {
      await stop(reason)
      return attempt(() => endOpenTests(context, reason))
    },
    stop,
  }
}

/** Also on the way back: whatever an attempt's tests left is removed. */
export async function endOpenTests(context: PhaseContext, reason: string): Promise<void> {
  for (const test of await context.settings.migrationTests.open(context.migration)) await conclude(context, test, reason)
}

/** Removes it, and says how it went; `reason` where it didn't get so far. */
async function conclude(context: PhaseContext, test: MigrationTestRow, reason: string): Promise<void> {
  if (test.state === 'RUNNING') await remove(context, test)
  const problem = test.problem ?? (test.healthyAfterMs === null ? reason : null)
  await context.settings.migrationTests.write(test, { state: problem === null ? 'PASSED' : 'FAILED', problem, endedAt: new Date() })
  await context.note(problem === null ? 'The test boot passed its health check, and is gone.' : `The test boot failed: ${problem}`)
}

async function remove(context: PhaseContext, test: MigrationTestRow): Promise<void> {
  const { destination } = await context.destination()
  await destination.testBoot?.remove({
    operationId: `${test.id}.remove`,
    vmId: destinationVmId(context),
    testId: test.id,
    signal: context.signal,
  })
}

async function consoleOf(context: PhaseContext, vmId: string): Promise<string | null> {
  try {
    const { virtualMachines } = await context.destination()
    return (await virtualMachines.console?.({ vmId, signal: context.signal }))?.text ?? null
  } catch (error) {
    context.signal.throwIfAborted()
    return `The console could not be read: ${messageOf(error)}`
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
