/** Writes what a cloud holds, as a complete read of it says. A virtual machine that is missing from it is `present: false`, never stopped. */
import { and, eq, lt, sql } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { clouds } from '../database/tables/cloud.ts'
import { disks, hosts, networks, nics, regions, subnets, virtualMachines, zones } from '../database/tables/topology.ts'
import { PortolanError } from '../domain/errors.ts'
import type { Topology } from '../plugin-sdk/index.ts'
import type { CloudConnections } from './cloud-connections.ts'
import { failureOf } from './failure.ts'
import { requireCloud } from './require-cloud.ts'
import { rowIdOf } from './row-ids.ts'

/** Throws what the provider throws, or TIMED_OUT where the signal is a time-out that has passed, with the cloud's row saying UNREACHABLE and why; the rows of the last complete read stay, but nobody knows what runs now. Of a cloud that was disconnected meanwhile nothing is written: NOT_FOUND. */
export async function refreshTopology(
  database: Database,
  connections: Pick<CloudConnections, 'connection'>,
  cloudId: string,
  signal: AbortSignal,
): Promise<Topology> {
  const write = async (build: Parameters<Database['write']>[0]) => {
    try {
      await database.write(build, [{ topic: 'CLOUD', subject: cloudId }])
    } catch (error) {
      await requireCloud(database, cloudId)
      throw error
    }
  }
  let topology: Topology
  const readAt = new Date()
  try {
    const connection = await connections.connection(cloudId, signal)
    topology = await connection.discoverTopology({ signal })
  } catch (error) {
    const timedOut = signal.aborted && (signal.reason as Error).name === 'TimeoutError'
    if (!timedOut) signal.throwIfAborted()
    const failure = timedOut ? noAnswer() : error
    const problem = failureOf(failure).message
    await write((orm) => [
      orm
        .update(clouds)
        .set({ state: unlessDisconnected('UNREACHABLE'), problem })
        .where(eq(clouds.id, cloudId)),
      orm.update(virtualMachines).set({ power: 'UNKNOWN' }).where(eq(virtualMachines.cloudId, cloudId)),
    ])
    throw failure
  }
  await write((orm) => topologyStatements(orm, cloudId, topology, readAt))
  return topology
}

/** For a disconnected cloud null, which the column refuses, so that the whole write is undone: its many statements go to the database at once, where a transaction that reads first would have each travel alone. */
function unlessDisconnected(state: 'CONNECTED' | 'UNREACHABLE') {
  return sql`CASE WHEN ${clouds.state} = 'DISCONNECTED' THEN NULL ELSE ${state} END`
}

function noAnswer(): PortolanError {
  return new PortolanError('TIMED_OUT', 'The cloud did not say in time what it holds; what was known of it stays.', {
    retryable: true,
    remedy: 'See that the cloud answers, and that nothing on the way drops its packets, then ask again.',
  })
}

type Orm = Parameters<Parameters<Database['write']>[0]>[0]

function topologyStatements(orm: Orm, cloudId: string, topology: Topology, readAt: Date) {
  const id = (providerId: string) => rowIdOf(cloudId, providerId)
  const tables = [subnets, networks, hosts, zones, regions, nics, disks] as const
  return [
    // An older read that comes later must not win; the rows below are all of one read.
    orm
      .update(clouds)
      .set({ state: unlessDisconnected('CONNECTED'), problem: null, refreshedAt: readAt })
      .where(eq(clouds.id, cloudId)),
    ...tables.map((table) => orm.delete(table).where(eq(table.cloudId, cloudId))),
    ...inserts(
      orm,
      regions,
      topology.regions.map((region) => ({ id: id(region.id), cloudId, providerId: region.id, name: region.name })),
    ),
    ...inserts(
      orm,
      zones,
      topology.regions.flatMap((region) =>
        region.zones.map((zone) => ({ id: id(zone.id), cloudId, regionId: id(region.id), providerId: zone.id, name: zone.name })),
      ),
    ),
    ...inserts(
      orm,
      hosts,
      topology.regions.flatMap((region) =>
        region.zones.flatMap((zone) =>
          zone.hosts.map(({ id: providerId, ...host }) => ({ ...host, id: id(providerId), cloudId, zoneId: id(zone.id), providerId })),
        ),
      ),
    ),
    ...inserts(
      orm,
      networks,
      topology.networks.map((network) => ({ id: id(network.id), cloudId, providerId: network.id, name: network.name })),
    ),
    ...inserts(
      orm,
      subnets,
      topology.networks.flatMap((network) =>
        network.subnets.map(({ id: providerId, name, cidr }) => ({
          id: id(providerId),
          cloudId,
          networkId: id(network.id),
          providerId,
          name,
          cidr,
        })),
      ),
    ),
    ...machineStatements(orm, cloudId, topology, readAt),
  ]
}

function machineStatements(orm: Orm, cloudId: string, topology: Topology, seenAt: Date) {
  const id = (providerId: string) => rowIdOf(cloudId, providerId)
  return [
    ...topology.virtualMachines.map(({ id: providerId, disks: _disks, nics: _nics, hostId, ...vm }) => {
      const row = { ...vm, id: id(providerId), cloudId, providerId, hostId: id(hostId), present: true, seenAt }
      return orm.insert(virtualMachines).values(row).onConflictDoUpdate({ target: virtualMachines.id, set: row })
    }),
    orm
      .update(virtualMachines)
      .set({ present: false })
      .where(and(eq(virtualMachines.cloudId, cloudId), lt(virtualMachines.seenAt, seenAt))),
    ...inserts(
      orm,
      disks,
      topology.virtualMachines.flatMap((vm) =>
        vm.disks.map(({ id: providerId, index, sizeBytes, bus, storageId = null }) => ({
          id: `${id(vm.id)}/disk/${index}`,
          virtualMachineId: id(vm.id),
          cloudId,
          providerId,
          index,
          sizeBytes,
          bus,
          storageId,
        })),
      ),
    ),
    ...inserts(
      orm,
      nics,
      topology.virtualMachines.flatMap((vm) =>
        vm.nics.map(({ index, mac, addresses, networkId }) => ({
          id: `${id(vm.id)}/nic/${index}`,
          virtualMachineId: id(vm.id),
          cloudId,
          networkId: id(networkId),
          index,
          mac,
          addresses,
        })),
      ),
    ),
  ]
}

type Table = typeof regions | typeof zones | typeof hosts | typeof networks | typeof subnets | typeof disks | typeof nics

/** One statement a row: a cloud has hundreds of them, and a statement's parameters are limited. */
function inserts<T extends Table>(orm: Orm, table: T, rows: T['$inferInsert'][]) {
  return rows.map((row) => orm.insert(table).values(row as never))
}
