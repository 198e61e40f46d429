import { agentAddresses, bootstrapFile } from '../agent-addresses.ts'
import { transferPort } from '../migration-settings.ts'
import { done, type Phase, type PhaseContext } from '../phase.ts'
import { sourceIsGone, sourceVmId } from './phase-facts.ts'

/** The destination's agent came with its landing image; this is the source's. */
export const installAgents: Phase = {
  name: 'INSTALL_AGENTS',
  atSource: true,
  control: 'PAUSABLE',
  timeoutMs: 15 * 60_000,
  needsSourceGuest: true,
  async do(context) {
    await installSourceAgent(context, 'install')
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
