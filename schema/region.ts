import { eq } from 'drizzle-orm'
import { regions } from '../src/database/tables/topology.ts'
import { builder } from './builder.ts'
import { Cloud } from './cloud.ts'
import { rowNode } from './row-node.ts'

export const Region = rowNode('Region', regions)
Region.implement({
  description: 'A part of a cloud that stands in one area; it has zones.',
  fields: (t) => ({
    name: t.exposeString('name', { description: "The provider's name of it." }),
    providerId: t.exposeString('providerId', { description: "The provider's id of it." }),
    cloud: t.field({ type: Cloud, description: 'The cloud it is part of.', resolve: (region) => region.cloudId }),
  }),
})

builder.objectField(Cloud, 'regions', (t) =>
  t.field({
    type: [Region],
    description: 'Its regions, by name.',
    resolve: (cloud, _, { db }) => db.select().from(regions).where(eq(regions.cloudId, cloud.id)).orderBy(regions.name),
  }),
)
