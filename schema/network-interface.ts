import { nics } from '../src/database/tables/topology.ts'
import { Network } from './network.ts'
import { rowNode } from './row-node.ts'

export const NetworkInterface = rowNode('NetworkInterface', nics)
NetworkInterface.implement({
  description: 'A network interface of a virtual machine.',
  fields: (t) => ({
    index: t.exposeInt('index', { description: 'Its place as the guest sees it, from 0.' }),
    macAddress: t.exposeString('mac', { description: 'Its hardware address, lower case with colons.' }),
    addresses: t.field({
      type: ['IPAddress'],
      description: 'Its addresses, as far as the provider knows them.',
      resolve: (nic) => nic.addresses,
    }),
    network: t.field({
      type: Network,
      nullable: true,
      description: 'The network it is attached to; null where its cloud does not list that.',
      resolve: (nic) => nic.networkId,
    }),
  }),
})
