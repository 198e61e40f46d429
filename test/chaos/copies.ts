/** Both copies of one virtual machine, as their providers and their clients see them. */
import { BlockList } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { DemoCloud } from '../../src/cli/demo-site.ts'
import { ProviderError, type Endpoint, type VirtualMachineDescription } from '../../src/plugin-sdk/index.ts'
import type { ScenarioSite } from '../support/scenario-site.ts'

const answerWithinMs = 3_000
const askWithinMs = 60_000
/** Of a copy that comes up it takes longer until its workload answers. Each description costs a host with libvirt some 100 ms of its CPU. */
const describeEveryMs = 2_000

/** Null where the cloud has none. @throws ProviderError while it can't be asked. */
export async function copyAt(cloud: DemoCloud, uniqueId: string): Promise<VirtualMachineDescription | null> {
  const { virtualMachines } = await cloud.connection.discoverTopology({ signal: AbortSignal.timeout(askWithinMs) })
  return virtualMachines.find((vm) => vm.uniqueId === uniqueId) ?? null
}

/** Where clients reach the workload of a copy that is on its own networks; null where it isn't running, or is isolated. */
async function publicEndpoint(cloud: DemoCloud, uniqueId: string): Promise<Endpoint | null> {
  const vm = await copyAt(cloud, uniqueId)
  return vm && endpointOf(vm, await subnetsOf(cloud))
}

/** The same of one copy, looked for until it is there: a description costs a fraction of a whole topology. */
function publicEndpointWatch(cloud: DemoCloud, uniqueId: string): () => Promise<Endpoint | null> {
  let vmId: string | undefined
  let described: { endpoint: Endpoint | null; at: number } | undefined
  return async () => {
    if (described && performance.now() - described.at < describeEveryMs) return described.endpoint
    described = undefined
    const at = performance.now()
    vmId ??= (await copyAt(cloud, uniqueId))?.id
    if (vmId === undefined) {
      described = { endpoint: null, at }
      return null
    }
    const signal = AbortSignal.timeout(askWithinMs)
    const vm = await cloud.connection.virtualMachines.describe({ vmId, signal }).catch((error: unknown) => {
      if (error instanceof ProviderError && error.code === 'NOT_FOUND') vmId = undefined
      throw error
    })
    described = { endpoint: endpointOf(vm, await subnetsOf(cloud)), at }
    return described.endpoint
  }
}

/** By the networks' ids; they stay as they are while a campaign runs. */
type Subnets = Map<string, string[]>
const subnets = new WeakMap<DemoCloud, Promise<Subnets>>()
async function subnetsOf(cloud: DemoCloud): Promise<Subnets> {
  const known = subnets.get(cloud) ?? readSubnets(cloud)
  subnets.set(cloud, known)
  known.catch(() => subnets.delete(cloud))
  return known
}

async function readSubnets({ connection, pluginId }: DemoCloud): Promise<Subnets> {
  // The addresses of user-mode networks are of no use outside of their machine.
  if (pluginId === 'qemu') return new Map()
  const { networks } = await connection.discoverTopology({ signal: AbortSignal.timeout(askWithinMs) })
  return new Map(networks.map((network) => [network.id, network.subnets.map(({ cidr }) => cidr)]))
}

function endpointOf(vm: VirtualMachineDescription, subnetsByNetwork: Subnets): Endpoint | null {
  if (vm.power !== 'RUNNING') return null
  const forwarded = vm.endpoints?.find(({ guestPort }) => guestPort === 8080)
  if (forwarded) return { host: forwarded.host, port: forwarded.port }
  // An isolated copy has an address that is of none of the cloud's networks, or one that leads nowhere.
  const reachable = new BlockList()
  for (const cidr of vm.nics.flatMap(({ networkId }) => subnetsByNetwork.get(networkId) ?? []))
    reachable.addSubnet(cidr.split('/')[0]!, Number(cidr.split('/')[1]))
  const host = vm.nics.flatMap(({ addresses }) => addresses).find((address) => reachable.check(address))
  return host === undefined ? null : { host, port: 8080 }
}

async function answers({ host, port }: Endpoint, stopping?: AbortSignal): Promise<boolean> {
  const signal = AbortSignal.any([AbortSignal.timeout(answerWithinMs), ...(stopping ? [stopping] : [])])
  try {
    return (await fetch(`http://${host}:${port}/health`, { signal })).ok
  } catch {
    return false
  }
}

/** Waits until the workload of a copy answers clients. @returns where; null when it doesn't in time. */
export async function serving(cloud: DemoCloud, uniqueId: string, timeoutMs: number): Promise<Endpoint | null> {
  for (const deadline = performance.now() + timeoutMs; performance.now() < deadline;) {
    const endpoint = await publicEndpoint(cloud, uniqueId).catch(() => null)
    if (endpoint && (await answers(endpoint))) return endpoint
    await new Promise((later) => setTimeout(later, 500))
  }
  return null
}

export interface LiveCopiesWatch {
  /** Moments at which both copies were live. */
  twoLive(): string[]
  /** How often it could be looked. */
  looks(): number
  stop(): Promise<void>
}

/**
 * Looks all the time whether clients are answered by both copies: the source before and after a look at the destination that finds it on its networks. What can't be asked
 * tells nothing. The record client is moved to the destination once that alone serves.
 */
export function watchLiveCopies({ destination, vm, records }: ScenarioSite): LiveCopiesWatch {
  const seen: string[] = []
  let looks = 0
  const stopping = new AbortController()
  const sourceEndpoint = vm.workload
  const destinationEndpoint = publicEndpointWatch(destination, vm.uniqueId)
  async function look(): Promise<void> {
    const { signal } = stopping
    const before = await answers(sourceEndpoint, signal)
    const endpoint = await destinationEndpoint()
    looks++
    if (!endpoint || !(await answers(endpoint, signal))) return
    const after = await answers(sourceEndpoint, signal)
    if (signal.aborted) return
    if (before && after)
      seen.push(
        `${new Date().toISOString()}: the source answers at ${sourceEndpoint.port}, and the destination at ${endpoint.host}:${endpoint.port}`,
      )
    else if (!before && !after) records.moveTo(endpoint)
  }
  const watching = (async () => {
    while (!stopping.signal.aborted) {
      await look().catch(() => {})
      await delay(500, undefined, { signal: stopping.signal }).catch(() => {})
    }
  })()
  return {
    twoLive: () => seen,
    looks: () => looks,
    async stop() {
      stopping.abort()
      await watching
    },
  }
}
