import { eq } from 'drizzle-orm'
import { hosts } from '../src/database/tables/topology.ts'
import { Architecture, type ArchitectureName } from './architecture.ts'
import { builder } from './builder.ts'
import { Cloud } from './cloud.ts'
import { connectionType } from './connection-type.ts'
import { page, pageComplexity, type RowOrder } from './connection.ts'
import { containing } from './containing.ts'
import { describedEnum } from './described-enum.ts'
import { rowIdOf } from './global-id.ts'
import { rowNode } from './row-node.ts'
import { Zone } from './zone.ts'

type HostRow = typeof hosts.$inferSelect

export const Host = rowNode('Host', hosts)
Host.implement({
  description: 'A machine that runs virtual machines.',
  fields: (t) => ({
    name: t.exposeString('name', { description: "The provider's name of it." }),
    providerId: t.exposeString('providerId', { description: "The provider's id of it." }),
    architecture: t.field({
      type: Architecture,
      description: 'What its processors run.',
      resolve: (host) => host.architecture as ArchitectureName,
    }),
    cpuCount: t.exposeInt('cpuCount', { description: 'Logical processors.' }),
    memoryBytes: t.expose('memoryBytes', { type: 'ByteCount', description: 'Memory in all, in bytes.' }),
    freeMemoryBytes: t.expose('freeMemoryBytes', {
      type: 'ByteCount',
      nullable: true,
      description: 'Memory for new virtual machines, in bytes; null where the provider does not tell.',
    }),
    freeDiskBytes: t.expose('freeDiskBytes', {
      type: 'ByteCount',
      nullable: true,
      description: 'Room for new disks, in bytes; null where the provider does not tell.',
    }),
    cloud: t.field({ type: Cloud, description: 'The cloud it is part of.', resolve: (host) => host.cloudId }),
    zone: t.field({ type: Zone, description: 'The availability zone it stands in.', resolve: (host) => host.zoneId }),
  }),
})

const HostConnection = connectionType('Host', 'hosts', Host)

const orders = {
  NAME_ASC: { column: hosts.name, direction: 'ASC' },
  NAME_DESC: { column: hosts.name, direction: 'DESC' },
} satisfies Record<string, RowOrder>

const HostOrder = describedEnum<keyof typeof orders>('HostOrder', 'Orders of hosts.', {
  NAME_ASC: 'By name, from A to Z.',
  NAME_DESC: 'By name, from Z to A.',
})

const HostFilter = builder.inputType('HostFilter', {
  description: 'Which hosts: those that meet every condition given.',
  fields: (t) => ({
    cloudId: t.id({ description: 'Of this cloud.' }),
    zoneId: t.id({ description: 'In this availability zone.' }),
    nameContains: t.string({ description: 'Part of the name, upper or lower case.' }),
  }),
})

builder.queryField('hosts', (t) =>
  t.connection(
    {
      type: Host,
      authScopes: { viewer: true },
      description: 'The hosts of all clouds.',
      complexity: pageComplexity,
      args: {
        filter: t.arg({ type: HostFilter, description: 'Leave away for all.' }),
        orderBy: t.arg({ type: HostOrder, defaultValue: 'NAME_ASC', required: true, description: 'By name unless said otherwise.' }),
      },
      resolve: (_, args, { db }) =>
        page<HostRow>(db, hosts, {
          args,
          where: [
            args.filter?.cloudId ? eq(hosts.cloudId, rowIdOf('Cloud', args.filter.cloudId, ['filter', 'cloudId'])) : undefined,
            args.filter?.zoneId ? eq(hosts.zoneId, rowIdOf('Zone', args.filter.zoneId, ['filter', 'zoneId'])) : undefined,
            containing(hosts.name, args.filter?.nameContains),
          ],
          order: orders[args.orderBy],
          orderValue: (row) => row.name,
        }),
    },
    HostConnection,
  ),
)

builder.objectField(Zone, 'hosts', (t) =>
  t.field({
    type: [Host],
    description: 'Its hosts, by name; `Query.hosts` gives them in pages.',
    resolve: (zone, _, { db }) => db.select().from(hosts).where(eq(hosts.zoneId, zone.id)).orderBy(hosts.name),
  }),
)
