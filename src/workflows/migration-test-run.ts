/**
 * Test boots of the copy while a migration waits for its cutover. The source is frozen for the moment of one small round, so that the copy is of one moment, as after a
 * power cut; it thaws before anything boots. Then another VM boots from an overlay of the copy, isolated, while syncing goes on into an overlay of its own.
 */
import { bothAgents } from './agent-link.ts'
import type { MigrationTestRow } from './migration-test-store.ts'
import type { PhaseContext } from './phase.ts'
import { destinationVmId } from './phases/phase-facts.ts'
import { runRound } from './round-run.ts'
import { untilHealthy } from './until-healthy.ts'

export interface MigrationTests {
  /** Between two rounds: begins what was asked for, unless one runs. */
  step(): Promise<void>
  /** Ends what runs, and removes it. */
  end(reason: string): Promise<void>
}

/** Freezes that a busy or restarted source may spoil before the test fails. */
const maxTries = 3

export function createMigrationTests(context: PhaseContext): MigrationTests {
  const tests = context.settings.migrationTests
  let running: { stop: AbortController; ended: Promise<void> } | null = null

  async function begin(test: MigrationTestRow): Promise<void> {
    const { testBoot } = (await context.destination()).destination
    if (!testBoot) return fail(test, "The destination's provider has no test boot.")
    await tests.write(test, { state: 'RUNNING' })
    try {
      const frozenMs = await copyOfOneMoment(context, test)
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
      // What it throws is said by whoever waits for it: at the phase's end, at the latest.
      ended.catch(() => {})
      running = { stop, ended }
    } catch (error) {
      context.signal.throwIfAborted()
      await remove(context, test)
      await fail(test, messageOf(error))
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
    await remove(context, test)
    await tests.write(test, { ...outcome, console, state: 'problem' in outcome ? 'FAILED' : 'PASSED', endedAt: new Date() })
    await context.note(
      'problem' in outcome ? `The test boot failed: ${outcome.problem}` : 'The test boot passed its health check, and is gone.',
    )
  }

  async function fail(test: MigrationTestRow, problem: string): Promise<void> {
    await tests.write(test, { state: 'FAILED', problem, endedAt: new Date() })
    await context.note(`The test boot failed: ${problem}`)
  }

  return {
    async step() {
      const open = await tests.open(context.migration)
      // One that runs, and not here, was begun by a control plane before us.
      const left = running ? undefined : open.find(({ state }) => state === 'RUNNING')
      if (left) {
        await remove(context, left)
        await fail(left, 'The control plane was restarted meanwhile; ask for another test.')
      }
      const next = open.find(({ state }) => state === 'PENDING')
      if (next && !running) await begin(next)
    },
    async end(reason) {
      running?.stop.abort(new Error(reason))
      await running?.ended
      await endOpenTests(context, reason)
    },
  }
}

/** Also on the way back: whatever an attempt's tests left is removed. */
export async function endOpenTests(context: PhaseContext, reason: string): Promise<void> {
  const tests = context.settings.migrationTests
  for (const test of await tests.open(context.migration)) {
    if (test.state === 'RUNNING') await remove(context, test)
    await tests.write(test, { state: 'FAILED', problem: reason, endedAt: new Date() })
  }
}

/** How long the source stood still for it, in milliseconds. */
async function copyOfOneMoment(context: PhaseContext, test: MigrationTestRow): Promise<number> {
  const { leaseMs, requestMs } = context.settings.timings
  const agents = await bothAgents(context)
  const { source } = agents
  for (let attempt = 1; ; attempt++) {
    const freezeId = `${test.id}.${attempt}`
    const since = performance.now()
    const lease = await context.leases.begin(freezeId, source, leaseMs, context.signal)
    try {
      const result = await runRound(context, agents, { mode: 'CHANGED', frozen: true }, AbortSignal.any([context.signal, lease.signal]))
      const { held } = await source.request('thaw', { freezeId }, { signal: context.signal, timeoutMs: requestMs })
      if (held && result && result.pendingBytes === 0 && !result.rescanNeeded) return Math.round(performance.now() - since)
    } finally {
      // Unrenewed, the watchdog in the guest thaws, whatever became of us.
      context.leases.drop(freezeId)
    }
    if (attempt === maxTries) throw new Error('The source could not be held still for a copy of one moment.')
  }
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
