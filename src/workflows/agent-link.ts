/** Joins the two agents: once at the start, and again whenever one of them is another process, or the link between them was lost. */
import type { AgentSession } from '../agent-gateway/agent-session.ts'
import { PortolanError } from '../domain/errors.ts'
import type { Endpoint, Reachability } from '../plugin-sdk/index.ts'
import type { AgentHello } from '../transfer/control-protocol.ts'
import { relayAddress } from './agent-addresses.ts'
import { transferPort } from './migration-settings.ts'
import { destinationVmId, resultOf, sourceVmId } from './phases/phase-facts.ts'
import type { AgentLink, PhaseContext } from './phase.ts'

export interface JoinedAgents {
  source: AgentSession
  destination: AgentSession
  link: AgentLink
}

export type BothAgents = Pick<JoinedAgents, 'source' | 'destination'>

/** The connected agents; waits for both to dial in. Throws AgentError AGENT_UNREACHABLE. */
export async function bothAgents(
  context: PhaseContext,
  { signal = context.signal, timeoutMs = context.settings.timings.agentMs }: { signal?: AbortSignal; timeoutMs?: number } = {},
): Promise<BothAgents> {
  const agents = await context.agents()
  const options = { signal, timeoutMs }
  const [source, destination] = await Promise.all([agents.agent('SOURCE', options), agents.agent('DESTINATION', options)])
  return { source, destination }
}

/** False where one of them was started again since they were joined: what it had in memory is gone, so it has to be joined anew, and everything compared. */
export function areJoined(context: PhaseContext, { source, destination }: BothAgents): boolean {
  const { sourceInstanceId, destinationInstanceId } = resultOf(context, 'CONNECT_AGENTS')
  return source.hello.agentInstanceId === sourceInstanceId && destination.hello.agentInstanceId === destinationInstanceId
}

/** Makes the destination receive and lets the source connect to it: directly where it can, else through the relay. */
export async function joinAgents(context: PhaseContext, options: { destinationEmpty: boolean }): Promise<JoinedAgents> {
  const { source, destination } = await bothAgents(context)
  const { signal } = context
  const timeoutMs = context.settings.timings.requestMs
  await destination.request('receive.start', { disk: targetSerial, empty: options.destinationEmpty }, { signal, timeoutMs })
  const { fromSource, relays } = await paths(context)
  const { relayToken } = await context.agents()
  const relay = (address: Endpoint | null) => (address ? { relay: { ...address, token: relayToken } } : {})
  // The destination answers once it can be reached, the source once it got through.
  await destination.request(
    'transfer.connect',
    { listenPort: transferPort, ...relay(relays.destination), timeoutMs },
    { signal, timeoutMs },
  )
  const { via } = await source.request(
    'transfer.connect',
    { endpoints: fromSource, ...relay(relays.source), timeoutMs },
    { signal, timeoutMs: timeoutMs * 2 },
  )
  const link: AgentLink = {
    disk: rootDisk(source.hello).name,
    sourceInstanceId: source.hello.agentInstanceId,
    destinationInstanceId: destination.hello.agentInstanceId,
    via,
  }
  await context.store.write(context.migration, { patch: { via } })
  return { source, destination, link }
}

export const targetSerial = 'portolan-disk-0'

/** The disk to copy: the one with the root file system. */
function rootDisk(hello: AgentHello) {
  const disk = hello.disks.find(({ root }) => root)
  if (disk) return disk
  throw new PortolanError('UNSUPPORTED', "The source's agent found no disk that holds the root file system.", {
    retryable: false,
    remedy: 'Only guests whose root file system is on a disk of the virtual machine are supported.',
  })
}

async function paths(
  context: PhaseContext,
): Promise<{ fromSource: Endpoint[]; relays: { source: Endpoint | null; destination: Endpoint | null } }> {
  const { signal, settings } = context
  const [source, destination] = await Promise.all([context.source(), context.destination()])
  const [ofSource, ofDestination] = await Promise.all([
    source.network.reachability({ vmId: sourceVmId(context), guestPort: transferPort, signal }),
    destination.network.reachability({ vmId: destinationVmId(context), guestPort: transferPort, signal }),
  ])
  return {
    fromSource: endpointsFromSource(ofSource, ofDestination),
    relays: {
      source: relayAddress(settings, ofSource.controlPlaneFromGuest),
      destination: relayAddress(settings, ofDestination.controlPlaneFromGuest),
    },
  }
}

/** An address that is this machine's loopback means this machine's name to the source's guest. */
function endpointsFromSource(source: Reachability, destination: Reachability): Endpoint[] {
  const endpoint = destination.fromControlPlane
  if (!endpoint) return []
  const loopback = /^(127\.|::1$|localhost$)/.test(endpoint.host)
  if (!loopback) return [endpoint]
  return source.controlPlaneFromGuest ? [{ host: source.controlPlaneFromGuest, port: endpoint.port }] : []
}
