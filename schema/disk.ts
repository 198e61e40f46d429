import { disks } from '../src/database/tables/topology.ts'
import { rowNode } from './row-node.ts'

export const Disk = rowNode('Disk', disks)
Disk.implement({
  description: 'A disk of a virtual machine.',
  fields: (t) => ({
    index: t.exposeInt('index', { description: 'Its place as the guest sees it, from 0.' }),
    sizeBytes: t.expose('sizeBytes', { type: 'ByteCount', description: 'Its size as the guest sees it, in bytes.' }),
    bus: t.exposeString('bus', { description: 'What it is attached by, such as `virtio`, `scsi`, `sata`, `nvme` or `ide`.' }),
    providerId: t.exposeString('providerId', { description: "The provider's id of it." }),
  }),
})
