/** Runs the operator's hooks around a phase: see src/domain/hook.ts for where one may be. Each outcome is kept as an event. */
import { isDatabaseFault } from '../database/database-fault.ts'
import { PortolanError } from '../domain/errors.ts'
import { isAfterCommit, keptOutputBytes, type Hook, type HookMoment } from '../domain/hook.ts'
import type { MigrationPhase } from '../domain/migration.ts'
import type { PhaseContext } from './phase.ts'
import { wait } from './wait.ts'

/**
 * In the order of the request. A phase that is repeated sends its hooks again under the same ids: at least once. Throws PortolanError HOOK_FAILED, not retryable, where the
 * hook's policy is FAIL; after the commit it throws only when aborted. A fault of the database is none of a hook, and is thrown as it is: the phase is repeated.
 */
export async function runHooks(context: PhaseContext, phase: MigrationPhase, when: HookMoment): Promise<void> {
  const hooks = (context.migration.request.hooks ?? []).filter((hook) => hook.phase === phase && hook.when === when)
  for (const hook of hooks) await runHook(context, hook)
}

async function runHook(context: PhaseContext, hook: Hook): Promise<void> {
  const { firstRetryMs, maxRetryMs } = context.settings.timings
  const title = `The hook ${hook.name} (${hook.when} ${hook.phase})`
  for (let attempt = 1, delayMs = firstRetryMs; ; attempt++, delayMs = Math.min(delayMs * 2, maxRetryMs)) {
    let ended: string
    try {
      const occupation = {
        doing: `Runs the hook ${hook.name} (${hook.when} ${hook.phase})`,
        waitsFor: 'its end',
        timeoutMs: hook.timeoutMs,
      }
      ended = await context.during(occupation, () => tryOnce(context, hook, attempt))
    } catch (error) {
      context.signal.throwIfAborted()
      if (isDatabaseFault(error)) throw error
      const reason = readable(error instanceof Error ? error.message : String(error)).slice(0, 2 * keptOutputBytes)
      if (attempt <= hook.retries) {
        await context.note(`${title} failed, and is tried again (${attempt} of ${hook.retries}). ${reason}`)
        await wait(delayMs, context.signal)
        continue
      }
      if (hook.onFailure === 'IGNORE' || isAfterCommit(hook.phase, hook.when)) {
        await context.note(`${title} failed, and the migration goes on without it. ${reason}`)
        return
      }
      throw new PortolanError('HOOK_FAILED', `${title} failed. ${reason}`, {
        retryable: false,
        remedy:
          'Correct what the hook does, then retry the migration; `changes.hooks` of `retryMigration` may replace it, or give it another policy.',
      })
    }
    await context.note(`${title} ${ended}`)
    return
  }
}

/** Answers with what to say of it. */
async function tryOnce(context: PhaseContext, hook: Hook, attempt: number): Promise<string> {
  const { migration } = context
  const id = [migration.id, migration.attempt, migration.switchover, hook.phase, hook.when, hook.name].join('.')
  const timeout = AbortSignal.timeout(hook.timeoutMs)
  const signal = AbortSignal.any([context.signal, timeout])
  try {
    return hook.action.kind === 'WEBHOOK'
      ? await context.settings.webhooks.deliver(hook.action, id, describe(context, hook, attempt), signal)
      : await runInGuest(context, hook, hook.action.command, `${id}.${attempt}`)
  } catch (error) {
    if (timeout.aborted) throw new Error(`It did not end within ${hook.timeoutMs} ms.`, { cause: error })
    throw error
  }
}

function describe({ migration }: PhaseContext, { name, phase, when }: Hook, delivery: number): Record<string, unknown> {
  const { id, attempt, switchover, sourceVirtualMachineId, destinationCloudId } = migration
  return {
    hook: name,
    migration: id,
    attempt,
    switchover,
    phase,
    when,
    delivery,
    timestamp: new Date().toISOString(),
    sourceVirtualMachineId,
    destinationCloudId,
  }
}

/** The agent keeps the time; we wait a little longer for its answer. */
async function runInGuest(
  context: PhaseContext,
  { name, phase, when, timeoutMs }: Hook,
  command: string[],
  hookId: string,
): Promise<string> {
  const { settings, migration, signal } = context
  const agent = await (await context.agents()).agent('SOURCE', { signal, timeoutMs: settings.timings.agentMs })
  const environment = {
    PORTOLAN_MIGRATION: migration.id,
    PORTOLAN_ATTEMPT: `${migration.attempt}`,
    PORTOLAN_PHASE: phase,
    PORTOLAN_WHEN: when,
    PORTOLAN_HOOK: name,
  }
  const answer = await agent.request(
    'hook.run',
    { hookId, command, timeoutMs, environment },
    { signal, timeoutMs: timeoutMs + settings.timings.requestMs },
  )
  const { exitCode, timedOut, outputBytes } = answer
  const output =
    answer.output === ''
      ? 'It wrote nothing.'
      : `It wrote ${outputBytes} bytes, at the end: ${readable(answer.output.slice(-keptOutputBytes))}`
  if (exitCode === 0) return `ended well. ${output}`
  throw new Error(
    `${timedOut ? `It did not end within ${timeoutMs} ms and was killed.` : `It ended with ${exitCode ?? 'a signal'}.`} ${output}`,
  )
}

/** Without what would steer a terminal. */
function readable(text: string): string {
  return text.replaceAll(/[^\P{Cc}\n]/gu, ' ').trim()
}
