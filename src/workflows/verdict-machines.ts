/** Finds the two copies of a virtual machine by its immutable unique id, among what the connected clouds hold. */
import type { CopyStanding } from '../domain/verdict-actions.ts'
import type { ProviderConnection, VirtualMachineDescription } from '../plugin-sdk/index.ts'
import { livedThereSince, type SiteAttempt } from './verdict-records.ts'
import { readFence, type FenceReading, type SiteReading } from './verdict-sites.ts'
import type { ReadSite } from './verdict-subjects.ts'

export interface LocatedMachine {
  /** Null where no connected cloud is known to be its. */
  cloudId: string | null
  connection: ProviderConnection | null
  vm: VirtualMachineDescription | null
  standing: CopyStanding
  fence: FenceReading | null
  message: string
  readAt: Date
  /** The recorded machine is gone, and another one has its unique id. */
  replaced?: true
}

type Found = Omit<LocatedMachine, 'standing' | 'fence'> & { power: CopyStanding['power'] }

export function findDestination(site: SiteReading, { uniqueId, vmId }: SiteAttempt): Found {
  return findIn(site, uniqueId, vmId)
}

/**
 * `known` is the connected cloud that our own rows, or the records, name. Without it (the database was lost, or that cloud is connected under another id) it is the other cloud to which the machine
 * that the started record names came last before that: a copy that is kept, or a source that was left, may well have the same ids. `elsewhere`: the clouds that may have it, and aren't the
 * destination under another name, as far as their records could be read.
 */
export function findSource(known: string | null, elsewhere: ReadSite[], judged: SiteAttempt, now: Date): Found {
  const { uniqueId, sourceVmId } = judged
  const site = elsewhere.find(({ cloudId }) => cloudId === known)
  if (site?.records.problem === null) return findIn(site, uniqueId, sourceVmId)
  const nowhere = (message: string): Found => ({ cloudId: known, connection: null, vm: null, power: 'UNKNOWN', message, readAt: now })
  // It may have been moved back there since, and be the live copy.
  if (site) return { ...nowhere(`Its site's records could not be read: ${site.records.problem}`), readAt: site.readAt }
  if (known) return nowhere('Its cloud is the same place as the destination, so nobody can ask for it there.')
  const holders = elsewhere.map((holder) => ({ holder, since: heldSince(holder, judged) })).filter(({ since }) => since !== null)
  const silent = holders.filter(({ since }) => since === 'UNREAD').length
  if (silent > 0)
    return nowhere(`${silent} of the connected clouds that may have it did not answer for it, and nothing else tells which is the source.`)
  const latest = Math.max(...holders.map(({ since }) => Number(since)))
  const [last, another] = holders.filter(({ since }) => since === latest)
  if (another) return nowhere('Several connected clouds may hold a machine of its ids, and nothing tells which is the source.')
  if (last) return findIn(last.holder, uniqueId, sourceVmId)
  return nowhere('None of the connected clouds holds it but as a copy, or at all; its own may not be connected.')
}

/** See `livedThereSince`. Null also where it neither is nor was; UNREAD where the site did not say enough. */
function heldSince({ records, machines, attempts }: ReadSite, judged: SiteAttempt): number | 'UNREAD' | null {
  const { uniqueId, sourceVmId } = judged
  const vm = machines.value?.find((machine) => machine.uniqueId === uniqueId && (sourceVmId === null || machine.id === sourceVmId))
  const isGone = machines.problem === null && !vm
  if (records.problem !== null) return isGone ? null : 'UNREAD'
  const since = livedThereSince(attempts, vm?.id ?? sourceVmId, judged)
  // Where it lived last it is the source, be it gone: what another site holds has been left before.
  return isGone && since === -Infinity ? null : since
}

/** Asks for the fence, whose answer is newer than the list that the machine was found in. */
export async function withFence(
  found: Found,
  of: { id: string; attempt: number },
  limits: { signal: AbortSignal; timeoutMs: number },
): Promise<LocatedMachine> {
  const { power, ...machine } = found
  if (!found.vm || !found.connection)
    return { ...machine, fence: null, standing: { power, fence: power === 'ABSENT' ? 'NONE' : 'UNKNOWN' } }
  const fence = await readFence(found.connection, found.vm.id, of, limits)
  return { ...machine, fence, standing: { power: fence.power ?? power, fence: fence.fence } }
}

/** Only the machine that the records name, where they do: one that somebody put in its place is none of the attempt's. */
function findIn(site: SiteReading, uniqueId: string | null, vmId: string | null): Found {
  const { cloudId, connection, machines, readAt } = site
  const where = { cloudId, connection, readAt }
  if (machines.value === null) return { ...where, vm: null, power: 'UNKNOWN', message: machines.problem }
  const twins = machines.value.filter((machine) => machine.uniqueId === uniqueId)
  const vm = twins.find(({ id }) => vmId === null || id === vmId)
  if (vm) return { ...where, vm, power: vm.power, message: `The machine ${JSON.stringify(vm.name)} is there; its power is ${vm.power}.` }
  const absent = { ...where, vm: null, power: 'ABSENT' } as const
  const [stranger] = twins
  return stranger
    ? {
        ...absent,
        replaced: true,
        message: `The recorded machine ${vmId} is gone, and ${stranger.id} has its unique id: it is left alone.`,
      }
    : { ...absent, message: 'The cloud answers that it has no machine of this unique id, which is not to say that it is stopped.' }
}
