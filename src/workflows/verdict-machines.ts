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

/** Only the machine that the records name, where they do: one that somebody put in its place is none of the attempt's. */
export function findDestination(site: SiteReading, { uniqueId, vmId }: Sought): Found {
  const found = findIn(site, uniqueId, vmId)
  if (!found.vm || vmId === null || found.vm.id === vmId) return found
  const message = `The recorded machine ${vmId} is gone, and ${found.vm.id} has its unique id: it is left alone.`
  return { ...found, vm: null, power: 'ABSENT', message, replaced: true }
}

/**
 * `known` is the cloud that our own rows, or the records, name. Without it (the database was lost) the only machine with the unique id in any other cloud is
 * taken; of several, the one with the id that the started record names. `elsewhere`: the other clouds that aren't the destination under another name.
 */
export function findSource(known: string | null, elsewhere: SiteReading[], sought: Sought, now: Date): Found {
  const { uniqueId, sourceVmId } = sought
  const site = elsewhere.find(({ cloudId }) => cloudId === known)
  if (site) return findIn(site, uniqueId, sourceVmId)
  const nowhere = (message: string): Found => ({ cloudId: known, connection: null, vm: null, power: 'UNKNOWN', message, readAt: now })
  if (known) return nowhere('Its cloud is not connected, so nobody can ask for it.')
  const holders = elsewhere.filter(({ machines }) => machines.value?.some((machine) => machine.uniqueId === uniqueId))
  const exact = holders.filter(({ machines }) => machines.value?.some(({ id, uniqueId: its }) => its === uniqueId && id === sourceVmId))
  const [holder, another] = holders.length > 1 ? exact : holders
  if (another || (holders.length > 1 && !holder))
    return nowhere('Several connected clouds hold a machine of this unique id, and nothing tells which is the source.')
  if (holder) return findIn(holder, uniqueId, sourceVmId)
  const silent = elsewhere.filter(({ machines }) => machines.problem !== null).length
  return nowhere(
    `None of the connected clouds shows it${silent > 0 ? `, and ${silent} of them did not answer` : ''}; its own may not be connected.`,
  )
}

/** Asks for the fence, whose answer is newer than the list that the machine was found in. */
export async function withFence(
  found: Found,
  fenceId: string,
  limits: { signal: AbortSignal; timeoutMs: number },
): Promise<LocatedMachine> {
  const { power, ...machine } = found
  if (!found.vm || !found.connection)
    return { ...machine, fence: null, standing: { power, fence: power === 'ABSENT' ? 'NONE' : 'UNKNOWN' } }
  const fence = await readFence(found.connection, found.vm.id, fenceId, limits)
  return { ...machine, fence, standing: { power: fence.power ?? power, fence: fence.fence } }
}

function findIn(site: SiteReading, uniqueId: string | null, vmId: string | null): Found {
  const { cloudId, connection, machines, readAt } = site
  const where = { cloudId, connection, readAt }
  if (machines.value === null) return { ...where, vm: null, power: 'UNKNOWN', message: machines.problem }
  const twins = machines.value.filter((machine) => machine.uniqueId === uniqueId)
  const vm = twins.find(({ id }) => id === vmId) ?? twins[0] ?? null
  if (!vm)
    return {
      ...where,
      vm,
      power: 'ABSENT',
      message: 'The cloud answers that it has no machine of this unique id, which is not to say that it is stopped.',
    }
  return { ...where, vm, power: vm.power, message: `The machine ${JSON.stringify(vm.name)} is there; its power is ${vm.power}.` }
}
