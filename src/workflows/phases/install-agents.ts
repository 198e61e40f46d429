import { ProviderError, type ProviderErrorCode } from '../../plugin-sdk/index.ts'
import { agentAddresses, bootstrapFile } from '../agent-addresses.ts'
import { transferPort } from '../migration-settings.ts'
import { done, type Phase, type PhaseContext } from '../phase.ts'
import { wait } from '../wait.ts'
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
    const { agentMs, maxRetryMs } = context.settings.timings
    const until = performance.now() + agentMs
    while (!(await isRemoved(context, until))) await wait(maxRetryMs, context.signal)
  },
}

/** There is no way into the guest, or none that gets anywhere, though its cloud answers. What fails inside it, as while its kernel still freezes, is none of these: such a removal is to be ended. */
const noLogin: readonly ProviderErrorCode[] = ['UNREACHABLE', 'TIMED_OUT', 'UNAUTHORIZED', 'INVALID_OPTIONS']

/**
 * From `until` on a guest that can't be logged in to is left as it is, and holds up neither lock nor destination any longer. Whatever was frozen is thawed by then, or is by its watchdog as
 * soon as the kernel lets go (see freeze.ts); and the agent that stays hears nobody any more: the end of the migration destroys the only authority that it trusts, and that trusts it.
 */
async function isRemoved(context: PhaseContext, until: number): Promise<boolean> {
  const { migration, signal } = context
  const source = await context.source()
  try {
    await source.migrationAgent.uninstall({ operationId: context.operationId('uninstall'), vmId: sourceVmId(context), signal })
  } catch (error) {
    if (await sourceIsGone(context)) {
      await context.note('The source is powered off, and what the agent had in its memory is gone with that.')
      return true
    }
    if (!(error instanceof ProviderError && noLogin.includes(error.code))) throw error
    if (performance.now() < until) {
      await context.store.write(migration, { patch: { problem: `${error.message} It is tried again.` } })
      return false
    }
    await context.note(
      `The agent could not be removed from the guest of ${migration.sourceVirtualMachineId}: ${error.message} Its process and its files, in portolan-agent in /run (else in /dev/shm or /dev), stay in the guest's memory, and can do nothing for anybody once the migration has ended. They go with the guest's next boot, or before its next migration. To remove them sooner, run there as root: pkill -f portolan-agent/bootstrap.json; umount -l /run/portolan-agent; rmdir /run/portolan-agent`,
    )
  }
  return true
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
