/** Two clouds with a virtual machine and a migration between them: rows as the workflows write them. */
import type { Database } from '../../src/database/client.ts'
import { clouds } from '../../src/database/tables/cloud.ts'
import { migrationEvents, migrations, rounds } from '../../src/database/tables/migration.ts'
import { disks, hosts, networks, nics, regions, subnets, virtualMachines, zones } from '../../src/database/tables/topology.ts'

const at = new Date('2026-11-22T14:00:00Z')

/** An id of the API, made as its clients must not. */
export const idOf = (typename: string, rowId: string) => Buffer.from(`${typename}:${rowId}`).toString('base64')

export function virtualMachine(
  index: number,
  values: Partial<typeof virtualMachines.$inferInsert> = {},
): typeof virtualMachines.$inferInsert {
  return {
    id: `east/vm-${index}`,
    cloudId: 'east',
    providerId: `vm-${index}`,
    uniqueId: `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`,
    name: `vm-${String(index).padStart(3, '0')}`,
    power: 'RUNNING',
    hostId: 'east/h1',
    architecture: 'x86_64',
    firmware: 'BIOS',
    cpuCount: 1,
    memoryBytes: 536_862_720,
    present: true,
    seenAt: at,
    ...values,
  }
}

export function migration(id: string, values: Partial<typeof migrations.$inferInsert> = {}): typeof migrations.$inferInsert {
  return {
    id,
    attempt: 1,
    phaseListVersion: 1,
    engineId: 'engine',
    state: 'RUNNING',
    phase: 'SYNC',
    desired: 'RUN',
    cutoverPolicy: 'MANUAL',
    sourceCloudId: 'east',
    destinationCloudId: 'west',
    sourceVirtualMachineId: 'east/vm-1',
    request: {
      sourceVirtualMachineId: 'east/vm-1',
      destinationCloudId: 'west',
      networkMap: [{ sourceNetworkId: 'east/n1', destinationNetworkId: 'west/n1' }],
      permittedDowntimeMs: 60_000,
      cutoverPolicy: 'MANUAL',
      healthCheck: { kind: 'HTTP', port: 8080, path: '/health', timeoutMs: 30_000 },
    },
    permittedDowntimeMs: 60_000,
    findings: [{ code: 'RESCAN', severity: 'WARNING', message: 'Rounds will rescan.', remedy: 'Mount tracefs in the guest.' }],
    createdAt: at,
    startedAt: at,
    updatedAt: at,
    ...values,
  }
}

export function event(migrationId: string, sequence: number): typeof migrationEvents.$inferInsert {
  return {
    id: `${migrationId}/${sequence}`,
    migrationId,
    attempt: 1,
    sequence,
    kind: 'NOTICE',
    phase: 'SYNC',
    message: `event ${sequence}`,
    at,
  }
}

export async function seed(db: Database): Promise<void> {
  const cloud = (id: string, pluginId: string): typeof clouds.$inferInsert => ({
    id,
    name: id,
    pluginId,
    sealedOptions: 'sealed-and-secret',
    state: 'CONNECTED',
    capabilities: ['records.put'],
    connectedAt: at,
    refreshedAt: at,
  })
  await db.write((orm) => [
    orm.insert(clouds).values([cloud('east', 'alpha'), cloud('west', 'beta')]),
    orm.insert(regions).values({ id: 'east/r1', cloudId: 'east', providerId: 'r1', name: 'region-1' }),
    orm.insert(zones).values({ id: 'east/z1', cloudId: 'east', regionId: 'east/r1', providerId: 'z1', name: 'zone-1' }),
    orm.insert(hosts).values({
      id: 'east/h1',
      cloudId: 'east',
      zoneId: 'east/z1',
      providerId: 'h1',
      name: 'host-1',
      architecture: 'x86_64',
      cpuCount: 2,
      memoryBytes: 25_769_803_776,
      freeDiskBytes: 53_687_091_200,
    }),
    orm.insert(networks).values([
      { id: 'east/n1', cloudId: 'east', providerId: 'n1', name: 'lan' },
      { id: 'west/n1', cloudId: 'west', providerId: 'n1', name: 'lan' },
    ]),
    orm
      .insert(subnets)
      .values({ id: 'east/s1', cloudId: 'east', networkId: 'east/n1', providerId: 's1', name: 'lan-1', cidr: '10.0.2.0/24' }),
    orm.insert(virtualMachines).values(virtualMachine(1)),
    orm.insert(disks).values({
      id: 'east/d1',
      virtualMachineId: 'east/vm-1',
      cloudId: 'east',
      providerId: 'd1',
      index: 0,
      sizeBytes: 2_147_483_648,
      bus: 'virtio',
    }),
    orm.insert(nics).values({
      id: 'east/nic1',
      virtualMachineId: 'east/vm-1',
      cloudId: 'east',
      networkId: 'east/n1',
      index: 0,
      mac: '52:54:00:12:34:56',
      addresses: ['10.0.2.15'],
    }),
    orm.insert(migrations).values(migration('m1')),
    orm.insert(rounds).values(
      [0, 1, 2].map((round) => ({
        migrationId: 'm1',
        attempt: 1,
        round,
        mode: round === 0 ? ('FULL' as const) : ('CHANGED' as const),
        state: 'DONE' as const,
        scannedBytes: 100,
        totalBytes: 100,
        changedBytes: 50,
        bytesSent: 40,
        verifiedBytes: 50,
        durationMs: 1000,
        startedAt: at,
      })),
    ),
    orm.insert(migrationEvents).values([event('m1', 1), event('m1', 2)]),
  ])
}
