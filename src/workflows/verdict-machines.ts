/** Finds the two copies of a virtual machine by its immutable unique id, among what the connected clouds hold. */
import type { CopyStanding } from '../domain/verdict-actions.ts'
import type { ProviderConnection, VirtualMachineDescription } from '../plugin-sdk/index.ts'
import type { SiteAttempt } from './verdict-records.ts'
import { readFence, type FenceReading, type SiteReading } from './verdict-sites.ts'

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
type Sought = Pick<SiteAttempt, 'uniqueId' | 'vmId' | 'sourceVmId'>

export function findDestination(site: SiteReading, { uniqueId, vmId }: Sought): Found {
  return findIn(site, uniqueId, vmId)
}

/**
 * `known` is the connected cloud that our own rows, or the records, name. Without it (the database was lost, or that cloud is connected under another id) it is the other cloud that holds the very
 * machine that the started record names. `elsewhere`: the clouds that may have it, and aren't the destination under another name, as far as their records could be read.
 */
export function findSource(known: string | null, elsewhere: SiteReading[], sought: Sought, now: Date): Found {
  const { uniqueId, sourceVmId } = sought
  const site = elsewhere.find(({ cloudId }) => cloudId === known)
  if (site?.records.problem === null) return findIn(site, uniqueId, sourceVmId)
  const nowhere = (message: string): Found => ({ cloudId: known, connection: null, vm: null, power: 'UNKNOWN', message, readAt: now })
  // It may have been moved back there since, and be the live copy.
  if (site) return { ...nowhere(`Its site's records could not be read: ${site.records.problem}`), readAt: site.readAt }
  if (known) return nowhere('Its cloud is the same place as the destination, so nobody can ask for it there.')
  const readable = elsewhere.filter(({ records, machines }) => records.problem === null && machines.problem === null)
  const [holder, another] = readable.filter(({ machines }) =>
    machines.value?.some((machine) => machine.uniqueId === uniqueId && (sourceVmId === null || machine.id === sourceVmId)),
  )
  if (another) return nowhere('Several connected clouds hold a machine of its ids, and nothing tells which is the source.')
  if (holder) return findIn(holder, uniqueId, sourceVmId)
  const silent = elsewhere.length - readable.length
  return nowhere(
    `None of the connected clouds that may have it shows it${silent > 0 ? `, and ${silent} of them did not answer` : ''}; its own may not be connected.`,
  )
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
