/** Pre-flight: looks at both clouds as they are now, and into the guest where the provider can. Changes nothing. */
import { desc, eq, and, isNotNull } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { migrations } from '../database/tables/migration.ts'
import { clouds } from '../database/tables/cloud.ts'
import { virtualMachines } from '../database/tables/topology.ts'
import { faultInBandwidthSchedule } from '../domain/bandwidth-schedule.ts'
import { PortolanError } from '../domain/errors.ts'
import { faultInExcludedDirectories } from '../domain/excluded-directories.ts'
import { isFenceOfMigration } from '../domain/fence-id.ts'
import type { Finding } from '../domain/finding.ts'
import { fixedDowntimeFrom, type FixedDowntime } from '../domain/fixed-downtime.ts'
import type { MigrationRequest } from '../domain/migration-request.ts'
import { placementFindings } from '../domain/placement.ts'
import { preFlightFindings } from '../domain/pre-flight.ts'
import { nameFault, ProviderError, type HostDescription, type ProviderConnection } from '../plugin-sdk/index.ts'
import type { CloudConnections } from './cloud-connections.ts'
import type { MigrationArtifacts } from './migration-settings.ts'
import { providerIdOf, rowIdOf } from './row-ids.ts'

export interface OwnTraces {
  migrationId: string
  /** The copy that an earlier attempt kept, or the machine that writes are carried back to. */
  copyRowId: string | null
}

export interface MigrationCheck {
  /** Throws PortolanError NOT_FOUND and INVALID_INPUT for a request that names what isn't there or makes no sense. */
  resolve(request: MigrationRequest): Promise<{ sourceCloudId: string; sourceVmId: string; destinationName: string }>
  /** Throws what the providers throw when they can't be asked. What is the migration's own doesn't stand in the way. */
  findings(request: MigrationRequest, signal: AbortSignal, own?: OwnTraces): Promise<Finding[]>
  /** What the last cut-over into the cloud took beside copying. */
  fixedDowntime(destinationCloudId: string): Promise<FixedDowntime>
}

export function createMigrationCheck(dependencies: {
  database: Database
  connections: Pick<CloudConnections, 'connection'>
  artifacts: MigrationArtifacts
}): MigrationCheck {
  const { database, connections, artifacts } = dependencies

  async function resolve(request: MigrationRequest) {
    requireSane(request)
    const [vm] = await database.select().from(virtualMachines).where(eq(virtualMachines.id, request.sourceVirtualMachineId))
    if (!vm?.present) throw notFound('virtual machine', request.sourceVirtualMachineId, 'sourceVirtualMachineId')
    const [cloud] = await database.select().from(clouds).where(eq(clouds.id, request.destinationCloudId))
    if (!cloud || cloud.state === 'DISCONNECTED') throw notFound('connected cloud', request.destinationCloudId, 'destinationCloudId')
    if (vm.cloudId === cloud.id)
      throw invalid('The virtual machine is in that cloud already.', 'destinationCloudId', 'Choose another destination.')
    for (const entry of request.networkMap) {
      if (!entry.sourceNetworkId.startsWith(`${vm.cloudId}/`) || !entry.destinationNetworkId.startsWith(`${cloud.id}/`))
        throw invalid(
          'The network map names a network of another cloud.',
          'networkMap',
          "Map networks of the source's cloud to networks of the destination's.",
        )
    }
    return { sourceCloudId: vm.cloudId, sourceVmId: vm.providerId, destinationName: cloud.name }
  }

  async function fixedDowntime(destinationCloudId: string): Promise<FixedDowntime> {
    const [last] = await database
      .select({ downtime: migrations.downtime })
      .from(migrations)
      .where(and(eq(migrations.destinationCloudId, destinationCloudId), isNotNull(migrations.downtime)))
      .orderBy(desc(migrations.createdAt))
      .limit(1)
    return fixedDowntimeFrom(last?.downtime ?? null)
  }

  return {
    resolve,
    fixedDowntime,
    async findings(request, signal, own) {
      const { sourceCloudId, sourceVmId, destinationName } = await resolve(request)
      const [source, destination] = await Promise.all([
        connections.connection(sourceCloudId, signal),
        connections.connection(request.destinationCloudId, signal),
      ])
      const [vm, fence, topology] = await Promise.all([
        source.virtualMachines.describe({ vmId: sourceVmId, signal }),
        source.fencing?.confirm({ vmId: sourceVmId, signal }),
        destination.discoverTopology({ signal }),
      ])
      const { nameRule } = destination.virtualMachines
      const { freezeMs, bootMs, healthMs } = await fixedDowntime(request.destinationCloudId)
      const isOwnCopy = ({ id }: { id: string }) => rowIdOf(request.destinationCloudId, id) === own?.copyRowId
      const allHosts = topology.regions.flatMap(({ zones }) => zones.flatMap((zone) => zone.hosts))
      // What is there already has its room, and some providers count it as taken.
      const hosts = topology.virtualMachines.some(isOwnCopy) ? allHosts.map(withoutFreeDisk) : allHosts
      const networkMap = request.networkMap.map(({ sourceNetworkId, destinationNetworkId }) => ({
        sourceNetworkId: providerIdOf(sourceCloudId, sourceNetworkId),
        destinationNetworkId: providerIdOf(request.destinationCloudId, destinationNetworkId),
      }))
      const placed = placementFindings(
        vm,
        hosts.flatMap(({ storages = [] }) => storages),
        {
          networkMap,
          unmappedNetworkPolicy: request.unmappedNetworkPolicy ?? 'FIRST',
          storageMap: request.storageMap ?? [],
          addressing: request.addressing ?? [],
        },
      )
      const fenceId = fence?.fenceId ?? null
      const isForeign = fenceId !== null && !(own && isFenceOfMigration(fenceId, own.migrationId))
      const found = preFlightFindings(
        { ...vm, foreignFenceId: isForeign ? fenceId : null },
        {
          name: destinationName,
          hosts,
          networkIds: topology.networks.map(({ id }) => id),
          virtualMachines: topology.virtualMachines.filter((candidate) => !isOwnCopy(candidate)),
          nameFault: nameFault(nameRule, vm.name),
          namesAreUnique: nameRule?.unique ?? false,
          isolationFault: destination.network.isolationFault ?? null,
        },
        {
          networkMap,
          landingMemoryBytes: artifacts.landing.memoryBytes,
          permittedDowntimeMs: request.permittedDowntimeMs,
          fixedDowntimeMs: freezeMs + bootMs + healthMs,
        },
      )
      found.push(...placed)
      return vm.power === 'RUNNING' ? [...found, ...(await guestFindings(source, sourceVmId, artifacts, signal))] : found
    },
  }
}

function withoutFreeDisk({ freeDiskBytes: _free, storages, ...host }: HostDescription): HostDescription {
  return { ...host, ...(storages && { storages: storages.map(({ freeBytes: _freeBytes, ...storage }) => storage) }) }
}

/** A guest that can't be looked into is a finding, not an error: the other findings are worth having. */
async function guestFindings(
  source: ProviderConnection,
  vmId: string,
  { agentBundleDirectory: bundleDirectory }: MigrationArtifacts,
  signal: AbortSignal,
): Promise<Finding[]> {
  if (!source.migrationAgent.inspect) return []
  try {
    return await source.migrationAgent.inspect({ vmId, bundleDirectory, signal })
  } catch (error) {
    if (!(error instanceof ProviderError) || signal.aborted) throw error
    return [{ code: `GUEST_${error.code}`, severity: 'BLOCKER', message: error.message, remedy: error.remedy }]
  }
}

function requireSane(request: MigrationRequest): void {
  const { permittedDowntimeMs, healthCheck } = request
  const fault = faultInExcludedDirectories(request.excludedDirectories ?? [])
  if (fault) throw invalid(`The list of excluded directories ${fault}.`, 'excludedDirectories', 'Correct the list.')
  const scheduleFault = request.bandwidth && faultInBandwidthSchedule(request.bandwidth)
  if (scheduleFault) throw invalid(`The bandwidth limit ${scheduleFault}.`, 'bandwidth', 'Correct the limit.')
  if (!(Number.isSafeInteger(permittedDowntimeMs) && permittedDowntimeMs > 0))
    throw invalid('The permitted downtime is a positive number of milliseconds.', 'permittedDowntimeMs', 'Permit some downtime.')
  if (!(Number.isInteger(healthCheck.port) && healthCheck.port >= 1 && healthCheck.port <= 65_535))
    throw invalid('The port of the health check is between 1 and 65535.', 'healthCheck', 'Correct the port.')
  if (!(Number.isSafeInteger(healthCheck.timeoutMs) && healthCheck.timeoutMs > 0 && healthCheck.timeoutMs <= 3_600_000))
    throw invalid('The time-out of the health check is between 1 ms and an hour.', 'healthCheck', 'Correct the time-out.')
  if (healthCheck.kind === 'HTTP' && !/^\/[\x21-\x7e]{0,1000}$/.test(healthCheck.path))
    throw invalid('The path of the health check begins with a slash and holds printable characters.', 'healthCheck', 'Correct the path.')
}

function invalid(message: string, field: string, remedy: string): PortolanError {
  return new PortolanError('INVALID_INPUT', `${message} Nothing was changed.`, { retryable: false, remedy, path: ['input', field] })
}

function notFound(what: string, id: string, field: string): PortolanError {
  return new PortolanError('NOT_FOUND', `There is no ${what} ${JSON.stringify(id)}; nothing was changed.`, {
    retryable: false,
    remedy: 'Refresh the topology, and see the lists for the ids.',
    path: ['input', field],
  })
}
