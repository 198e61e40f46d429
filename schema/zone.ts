import { eq } from 'drizzle-orm'
import { zones } from '../src/database/tables/topology.ts'
import { builder } from './builder.ts'
import { Cloud } from './cloud.ts'
import { Region } from './region.ts'
import { rowNode } from './row-node.ts'

export const Zone = rowNode('Zone', zones)
Zone.implement({
  description: 'An availability zone: hosts of a region that fail together.',
  fields: (t) => ({
    name: t.exposeString('name', { description: "The provider's name of it." }),
    providerId: t.exposeString('providerId', { description: "The provider's id of it." }),
    cloud: t.field({ type: Cloud, description: 'The cloud it is part of.', resolve: (zone) => zone.cloudId }),
    region: t.field({ type: Region, description: 'The region it is part of.', resolve: (zone) => zone.regionId }),
  }),
})

builder.objectField(Region, 'zones', (t) =>
  t.field({
    type: [Zone],
    description: 'Its availability zones, by name.',
    resolve: (region, _, { db }) => db.select().from(zones).where(eq(zones.regionId, region.id)).orderBy(zones.name),
  }),
)
