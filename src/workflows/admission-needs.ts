import { eq, inArray } from 'drizzle-orm'
import type { Database, Transaction } from '../database/client.ts'
import { clouds } from '../database/tables/cloud.ts'
import { migrations } from '../database/tables/migration.ts'
import { disks, hosts, virtualMachines } from '../database/tables/topology.ts'
import type { Need, Standing } from '../domain/admission.ts'

/**
 * Both clouds, the source's host, the storages of its disks (the disks themselves where the provider tells none), and the destination's host where the cloud has one only: else the provider chooses it, and nobody knows it yet.
 */
export async function needsOf(tx: Transaction, migrationId: string): Promise<Need[]> {
  const [migration] = await tx.select().from(migrations).where(eq(migrations.id, migrationId))
  if (!migration) throw new Error(`There is no migration ${migrationId}.`)
  const { sourceCloudId, destinationCloudId, sourceVirtualMachineId } = migration
  const [vm] = await tx.select().from(virtualMachines).where(eq(virtualMachines.id, sourceVirtualMachineId))
  const read = await tx.select().from(disks).where(eq(disks.virtualMachineId, sourceVirtualMachineId))
  const destinationHosts = await tx.select().from(hosts).where(eq(hosts.cloudId, destinationCloudId)).limit(2)
  const needs: Need[] = [
    `CLOUD:${sourceCloudId}`,
    `CLOUD:${destinationCloudId}`,
    ...(vm ? [`HOST:${vm.hostId}` as const] : []),
    ...(destinationHosts.length === 1 ? [`HOST:${destinationHosts[0]!.id}` as const] : []),
    ...read.map(({ id, storageId }) => `DISK:${storageId === null ? id : `${vm?.hostId}/storage/${storageId}`}` as const),
  ]
  return [...new Set(needs)]
}

/** For a migration that waits. */
export async function sentenceFor(
  database: Pick<Database, 'select'>,
  { position, lacks }: Standing,
  limitOf: (need: Need) => number,
): Promise<string> {
  const place = `It is number ${position} in the queue`
  if (lacks.length === 0) return `${place}, and gets its slot next.`
  const ids = lacks.map(idOf)
  const named = new Map(
    [
      ...(await database.select({ id: clouds.id, name: clouds.name }).from(clouds).where(inArray(clouds.id, ids))),
      ...(await database.select({ id: hosts.id, name: hosts.name }).from(hosts).where(inArray(hosts.id, ids))),
    ].map(({ id, name }) => [id, name]),
  )
  const wanted = lacks.map(
    (need) =>
      `${scopeNames[need.split(':')[0] as keyof typeof scopeNames]} ${named.get(idOf(need)) ?? idOf(need)} (${limitOf(need)} at once)`,
  )
  return `${place}: it waits for a slot of ${wanted.join(' and ')}, which are taken or wanted by those before it.`
}

const scopeNames = { CLOUD: 'cloud', HOST: 'host', DISK: 'disk' } as const

function idOf(need: Need): string {
  return need.slice(need.indexOf(':') + 1)
}
