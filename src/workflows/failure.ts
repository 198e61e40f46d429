/** Translates whatever went wrong into the closed set that clients know. Exhaustive: a new code of a provider doesn't compile until it is placed here. */
import { AgentError, type AgentErrorCode } from '../agent-gateway/agent-error.ts'
import { PortolanError, type ErrorCode } from '../domain/errors.ts'
import { ProviderError, type ProviderErrorCode } from '../plugin-sdk/index.ts'

const providerCodes: Record<ProviderErrorCode, ErrorCode> = {
  INVALID_OPTIONS: 'INVALID_OPTIONS',
  UNAUTHORIZED: 'UNAUTHORIZED_AT_CLOUD',
  UNREACHABLE: 'CLOUD_UNREACHABLE',
  NOT_FOUND: 'NOT_FOUND',
  CONFLICT: 'CONFLICT',
  INSUFFICIENT_CAPACITY: 'INSUFFICIENT_CAPACITY',
  UNSUPPORTED: 'UNSUPPORTED',
  TIMED_OUT: 'TIMED_OUT',
  CANCELLED: 'CANCELLED',
  PLUGIN_CRASHED: 'PLUGIN_CRASHED',
  INCOMPATIBLE_PLUGIN: 'UNSUPPORTED',
  INTERNAL: 'INTERNAL',
}

const agentCodes: Record<AgentErrorCode, ErrorCode> = {
  AGENT_UNREACHABLE: 'AGENT_UNREACHABLE',
  AGENT_RESTARTED: 'AGENT_UNREACHABLE',
  AGENT_FAILED: 'INTERNAL',
  TIMED_OUT: 'AGENT_UNREACHABLE',
  CANCELLED: 'CANCELLED',
  MIGRATION_CLOSED: 'AGENT_UNREACHABLE',
  PROTOCOL: 'INTERNAL',
}

/** An agent's own codes for not getting through to the other agent. */
const linkCodes: readonly (string | undefined)[] = ['LINK_LOST', 'NOT_CONNECTED']

const agentRemedy =
  'See that both guests run, have memory to spare, and reach the control plane and each other (or the relay), then retry the migration.'

/** A guest sees an error of its disk, whatever the host's reason. A virtual disk has no bad sectors: it is a lack of room, and waiting makes none. */
const diskRemedy =
  "Free room where the destination's disks lie (most often that storage is full), then retry the migration, or start one to another destination."

export function failureOf(error: unknown): PortolanError {
  if (error instanceof PortolanError) return error
  if (error instanceof ProviderError) {
    const { retryable, remedy, path } = error
    return new PortolanError(providerCodes[error.code], error.message, { retryable, remedy, path })
  }
  if (error instanceof AgentError) {
    const { code, agentCode, message, retryable } = error
    if (agentCode === 'DISK_WRITE_FAILED')
      return new PortolanError('INSUFFICIENT_CAPACITY', message, { retryable: false, remedy: diskRemedy })
    return new PortolanError(linkCodes.includes(agentCode) ? 'AGENT_UNREACHABLE' : agentCodes[code], message, {
      retryable,
      remedy: agentRemedy,
    })
  }
  return new PortolanError('INTERNAL', error instanceof Error ? error.message : String(error), {
    retryable: false,
    remedy: "This is a fault of Portolan: see the control plane's log, and report it.",
  })
}

/** Whether a site did not answer: it refused, or it kept silent. What it did is not known. */
export function isOutOfReach(error: unknown): boolean {
  const { code } = failureOf(error)
  return code === 'CLOUD_UNREACHABLE' || code === 'TIMED_OUT'
}

/** Whatever the work throws, its caller gets a PortolanError. */
export async function translated<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw failureOf(error)
  }
}
