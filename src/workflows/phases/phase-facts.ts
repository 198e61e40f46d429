import { PortolanError } from '../../domain/errors.ts'
import { ProviderError } from '../../plugin-sdk/index.ts'
import type { AgentRole } from '../../transfer/control-protocol.ts'
import type { PhaseContext, PhaseResults } from '../phase.ts'
import { providerIdOf } from '../row-ids.ts'

export function sourceVmId({ migration }: PhaseContext): string {
  return providerIdOf(migration.sourceCloudId, migration.sourceVirtualMachineId)
}

export function destinationVmId(context: PhaseContext): string {
  const { vmId } = resultOf(context, 'INSTANTIATE_DESTINATION')
  return vmId ?? missing(context, 'INSTANTIATE_DESTINATION')
}

/**
 * True when the source was powered off, or deleted, by somebody else: what we had in its memory is gone with it, and there is nothing to resume. Throws
 * ProviderError where its cloud can't tell.
 */
export async function sourceIsGone(context: PhaseContext): Promise<boolean> {
  const { virtualMachines } = await context.source()
  try {
    return (await virtualMachines.describe({ vmId: sourceVmId(context), signal: context.signal })).power === 'STOPPED'
  } catch (error) {
    if (error instanceof ProviderError && error.code === 'NOT_FOUND') return true
    throw error
  }
}

/** Its agent won't dial in, nor a round go on, however long one waits. False also where its cloud can't tell: then there is nothing to do but wait. */
export async function isOff(context: PhaseContext, role: AgentRole): Promise<boolean> {
  try {
    const { virtualMachines } = await (role === 'SOURCE' ? context.source() : context.destination())
    const vmId = role === 'SOURCE' ? sourceVmId(context) : destinationVmId(context)
    return (await virtualMachines.describe({ vmId, signal: context.signal })).power === 'STOPPED'
  } catch {
    context.signal.throwIfAborted()
    return false
  }
}

/** What an earlier phase left. Its absence is a fault of the phase list. */
export function resultOf<Name extends keyof PhaseResults>(context: PhaseContext, phase: Name): PhaseResults[Name] {
  return context.results[phase] ?? missing(context, phase)
}

function missing(context: PhaseContext, phase: string): never {
  throw new PortolanError('INTERNAL', `Migration ${context.migration.id} has no result of ${phase}.`, {
    retryable: false,
    remedy: 'This is a fault of Portolan: report it with the events of the migration.',
  })
}

/** Names one freeze of the source, so that a late thaw or renewal of another one does nothing. */
export function freezeIdOf({ migration }: PhaseContext): string {
  return `${migration.id}.${migration.attempt}.${migration.switchover}`
}

export function isFreezeOf(freezeId: string, migrationId: string): boolean {
  return freezeId.startsWith(`${migrationId}.`)
}
