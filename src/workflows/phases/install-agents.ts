import { agentAddresses, bootstrapFile } from '../agent-addresses.ts'
import { transferPort } from '../migration-settings.ts'
import { done, type Phase, type PhaseContext } from '../phase.ts'
import { failureOf } from '../failure.ts'
import { sourceIsOff } from '../source-off.ts'
import { wait } from '../wait.ts'
import { isOff, sourceIsGone, sourceVmId } from './phase-facts.ts'

/** The destination's agent came with its landing image; this is the source's. */
export const installAgents: Phase = {
  name: 'INSTALL_AGENTS',
  atSource: true,
  control: 'PAUSABLE',
  timeoutMs: 15 * 60_000,
  ownRetries: true,
  async do(context) {
    await untilInstalled(context)
    return done
  },
  async undo(context) {
    const source = await context.source()
    try {
      await source.migrationAgent.uninstall({
        operationId: context.operationId('uninstall'),
        vmId: sourceVmId(context),
        signal: context.signal,
      })
    } catch (error) {
      if (!(await sourceIsGone(context))) throw error
      await context.note('The source is powered off, and what the agent had in its memory is gone with that.')
    }
  },
}

/** A source that is off is waited for as long as an agent that is lost: somebody may start it. */
async function untilInstalled(context: PhaseContext): Promise<void> {
  const { firstRetryMs, lostMs, maxRetryMs } = context.settings.timings
  let offSince: number | null = null
  for (let delayMs = firstRetryMs; ; delayMs = Math.min(delayMs * 2, maxRetryMs)) {
    try {
      return await installSourceAgent(context, 'install')
    } catch (error) {
      context.signal.throwIfAborted()
      const failure = failureOf(error)
      if (!failure.retryable) throw error
      offSince = (await isOff(context, 'SOURCE')) ? (offSince ?? performance.now()) : null
      if (offSince !== null && performance.now() - offSince >= lostMs) throw sourceIsOff()
      await context.store.write(context.migration, { patch: { problem: `${failure.message} It is tried again.` } })
      await wait(delayMs, context.signal)
    }
  }
}

/** `call` must be another one where an agent that was lost is replaced, or the provider answers that it is there already. */
export async function installSourceAgent(context: PhaseContext, call: string): Promise<void> {
  const { signal, settings } = context
  const source = await context.source()
  const vmId = sourceVmId(context)
  const { controlPlaneFromGuest } = await source.network.reachability({ vmId, guestPort: transferPort, signal })
  const agents = await context.agents()
  await source.migrationAgent.install({
    operationId: context.operationId(call),
    vmId,
    bundleDirectory: settings.artifacts.agentBundleDirectory,
    inject: [bootstrapFile(agents.bootstrap('SOURCE', agentAddresses(settings, controlPlaneFromGuest)))],
    signal,
  })
}
