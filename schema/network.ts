import { eq } from 'drizzle-orm'
import { networks } from '../src/database/tables/topology.ts'
import { builder } from './builder.ts'
import { Cloud } from './cloud.ts'
import { rowNode } from './row-node.ts'

export const Network = rowNode('Network', networks)
Network.implement({
  description: 'What virtual machines of a cloud are attached to.',
  fields: (t) => ({
    name: t.exposeString('name', { description: "The provider's name of it." }),
    providerId: t.exposeString('providerId', { description: "The provider's id of it." }),
    cloud: t.field({ type: Cloud, description: 'The cloud it is part of.', resolve: (network) => network.cloudId }),
  }),
})

builder.objectField(Cloud, 'networks', (t) =>
  t.field({
    type: [Network],
    description: 'Its networks, by name.',
    resolve: (cloud, _, { db }) => db.select().from(networks).where(eq(networks.cloudId, cloud.id)).orderBy(networks.name),
  }),
)
