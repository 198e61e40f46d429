import { eq } from 'drizzle-orm'
import { subnets } from '../src/database/tables/topology.ts'
import { builder } from './builder.ts'
import { Network } from './network.ts'
import { rowNode } from './row-node.ts'

const Subnet = rowNode('Subnet', subnets)
Subnet.implement({
  description: 'A range of addresses of a network.',
  fields: (t) => ({
    name: t.exposeString('name', { description: "The provider's name of it." }),
    providerId: t.exposeString('providerId', { description: "The provider's id of it." }),
    cidr: t.expose('cidr', { type: 'CIDR', description: 'The range.' }),
    network: t.field({ type: Network, description: 'The network it is part of.', resolve: (subnet) => subnet.networkId }),
  }),
})

builder.objectField(Network, 'subnets', (t) =>
  t.field({
    type: [Subnet],
    description: 'Its subnets, by name.',
    resolve: (network, _, { db }) => db.select().from(subnets).where(eq(subnets.networkId, network.id)).orderBy(subnets.name),
  }),
)
