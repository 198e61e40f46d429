import type { Finding, FindingSeverity } from './finding.ts'

/** What pre-flight knows about the virtual machine, as its provider describes it now. */
export interface SourceMachine {
  name: string
  uniqueId: string
  power: 'RUNNING' | 'SUSPENDED' | 'STOPPED' | 'UNKNOWN'
  architecture: string
  firmware: string
  memoryBytes: number
  disks: readonly { sizeBytes: number }[]
  nics: readonly { mac: string; networkId: string }[]
  /** The id of a fence that another migration armed. */
  foreignFenceId?: string | null
}

/** What pre-flight knows about the destination's cloud. Free sizes are absent where its provider doesn't tell. */
export interface DestinationSite {
  name: string
  hosts: readonly { name: string; architecture: string; freeMemoryBytes?: number | undefined; freeDiskBytes?: number | undefined }[]
  networkIds: readonly string[]
  virtualMachines: readonly { uniqueId: string; name: string }[]
  /** What its provider says of the names that it takes, where it doesn't take this machine's; and whether no two machines there have the same. */
  nameFault?: string | null
  namesAreUnique?: boolean
  /** Why no isolated machine there can be health-checked, where none can. */
  isolationFault?: string | null
}

export interface PreFlightPlan {
  /** Provider's ids. */
  networkMap: readonly { sourceNetworkId: string; destinationNetworkId: string }[]
  landingMemoryBytes: number
  permittedDowntimeMs: number
  /** Of freeze, boot and health check: what no round can bring down. */
  fixedDowntimeMs: number
}

const mebibyte = 1024 * 1024

/** Every reason to refuse, warn or inform, from descriptions alone. Changes nothing, asks nobody. */
export function preFlightFindings(source: SourceMachine, site: DestinationSite, plan: PreFlightPlan): Finding[] {
  return [
    ...machineFindings(source, plan),
    ...siteFindings(source, site),
    ...networkFindings(source, site, plan),
    ...downtimeFindings(plan),
  ]
}

function machineFindings(source: SourceMachine, plan: PreFlightPlan): Finding[] {
  const found: Finding[] = []
  const vm = `The virtual machine ${source.name}`
  if (source.power !== 'RUNNING')
    found.push(
      finding('BLOCKER', 'SOURCE_NOT_RUNNING', `${vm} is ${source.power}.`, 'Start it: its agent copies from inside the running guest.'),
    )
  if (source.foreignFenceId)
    found.push(
      finding(
        'BLOCKER',
        'FENCE_OF_ANOTHER_MIGRATION',
        `${vm} is under the fence ${source.foreignFenceId} of another migration.`,
        'Reconcile that migration by its verdict, then try again.',
      ),
    )
  if (source.firmware !== 'BIOS')
    found.push(
      finding(
        'BLOCKER',
        'FIRMWARE_UNSUPPORTED',
        `${vm} boots by ${source.firmware}.`,
        'Only BIOS is supported; use another way to move it.',
      ),
    )
  if (source.disks.length !== 1)
    found.push(
      finding(
        'BLOCKER',
        'DISK_COUNT_UNSUPPORTED',
        `${vm} has ${source.disks.length} disks.`,
        'Only one disk is supported; merge or detach the others.',
      ),
    )
  if (source.memoryBytes < plan.landingMemoryBytes)
    found.push(
      finding(
        'BLOCKER',
        'MEMORY_TOO_SMALL',
        `${vm} has ${inMebibytes(source.memoryBytes)} of memory, and the landing image needs ${inMebibytes(plan.landingMemoryBytes)}.`,
        'Give it more memory before the move.',
      ),
    )
  return found
}

function siteFindings(source: SourceMachine, site: DestinationSite): Finding[] {
  const found: Finding[] = []
  const twin = site.virtualMachines.find(({ uniqueId }) => uniqueId === source.uniqueId)
  if (twin)
    found.push(
      finding(
        'BLOCKER',
        'ALREADY_AT_DESTINATION',
        `${site.name} has a virtual machine (${twin.name}) with the same unique id ${source.uniqueId}.`,
        'Retry or discard the migration that keeps it as its copy; delete it there if it is a leftover of an earlier move.',
      ),
    )
  if (site.nameFault)
    found.push(
      finding(
        'BLOCKER',
        'NAME_NOT_TAKEN',
        `${site.name} takes no virtual machine named ${JSON.stringify(source.name)}: a name there ${site.nameFault}.`,
        'Rename the virtual machine in its own cloud first.',
      ),
    )
  if (site.isolationFault)
    found.push(
      finding(
        'BLOCKER',
        'DESTINATION_NOT_CHECKABLE',
        `The control plane could not check the copy before it takes over: an isolated machine in ${site.name} ${site.isolationFault}, so its health check would fail while the service stands still.`,
        'Run a control plane on that host, or choose another cloud.',
      ),
    )
  const namesake =
    site.namesAreUnique && site.virtualMachines.some(({ name, uniqueId }) => name === source.name && uniqueId !== source.uniqueId)
  if (namesake)
    found.push(
      finding(
        'BLOCKER',
        'NAME_IN_USE',
        `${site.name} has another virtual machine named ${JSON.stringify(source.name)}, and no two there have the same name.`,
        'Rename one of the two first.',
      ),
    )
  const matching = site.hosts.filter(({ architecture }) => architecture === source.architecture)
  if (matching.length === 0) {
    found.push(
      finding(
        'BLOCKER',
        'ARCHITECTURE_DIFFERS',
        `${site.name} has no ${source.architecture} host.`,
        'Choose a cloud with hosts of that architecture.',
      ),
    )
    return found
  }
  const diskBytes = source.disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  // Unknown is not "none": a provider that doesn't tell may well have room.
  const roomFor = (free: number | undefined, needed: number) => free === undefined || free >= needed
  if (!matching.some(({ freeDiskBytes }) => roomFor(freeDiskBytes, diskBytes)))
    found.push(
      finding(
        'BLOCKER',
        'DESTINATION_DISK_TOO_SMALL',
        `No host of ${site.name} has ${inMebibytes(diskBytes)} of free disk space.`,
        'Free space there, or choose another cloud.',
      ),
    )
  if (!matching.some(({ freeMemoryBytes }) => roomFor(freeMemoryBytes, source.memoryBytes)))
    found.push(
      finding(
        'BLOCKER',
        'DESTINATION_MEMORY_TOO_SMALL',
        `No host of ${site.name} has ${inMebibytes(source.memoryBytes)} of free memory.`,
        'Stop something there, or choose another cloud.',
      ),
    )
  return found
}

function networkFindings(source: SourceMachine, site: DestinationSite, plan: PreFlightPlan): Finding[] {
  if (site.networkIds.length === 0)
    return source.nics.length === 0
      ? []
      : [finding('BLOCKER', 'NO_DESTINATION_NETWORK', `${site.name} has no network.`, 'Make one there and refresh the topology.')]
  const unknown = plan.networkMap.filter(({ destinationNetworkId }) => !site.networkIds.includes(destinationNetworkId))
  const unmapped = source.nics.filter((nic) => !plan.networkMap.some(({ sourceNetworkId }) => sourceNetworkId === nic.networkId))
  return [
    ...unknown.map(({ destinationNetworkId }) =>
      finding('BLOCKER', 'DESTINATION_NETWORK_UNKNOWN', `${site.name} has no network ${destinationNetworkId}.`, 'Correct the network map.'),
    ),
    ...unmapped.map((nic) =>
      finding(
        'INFORMATION',
        'NETWORK_NOT_MAPPED',
        `The interface ${nic.mac} is on a network that the network map doesn't name; it goes to ${site.networkIds[0]}.`,
        'Add its network to the map if it belongs elsewhere.',
      ),
    ),
  ]
}

function downtimeFindings(plan: PreFlightPlan): Finding[] {
  if (plan.fixedDowntimeMs < plan.permittedDowntimeMs) return []
  return [
    finding(
      'WARNING',
      'DOWNTIME_TOO_SHORT',
      `Freezing, booting and checking alone are estimated at ${plan.fixedDowntimeMs} ms, and ${plan.permittedDowntimeMs} ms are permitted.`,
      'Permit a longer downtime, or the criterion for the cut-over will never hold.',
    ),
  ]
}

function finding(severity: FindingSeverity, code: string, message: string, remedy: string): Finding {
  return { code, severity, message, remedy }
}

function inMebibytes(bytes: number): string {
  return `${Math.round(bytes / mebibyte)} MiB`
}
