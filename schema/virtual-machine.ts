import type { DefaultConnectionArguments } from '@pothos/plugin-relay'
import { eq, type SQL } from 'drizzle-orm'
import { disks, nics, virtualMachines } from '../src/database/tables/topology.ts'
import { anyOf } from './any-of.ts'
import { Architecture, type ArchitectureName } from './architecture.ts'
import { builder } from './builder.ts'
import { Cloud } from './cloud.ts'
import { connectionType } from './connection-type.ts'
import { page, pageComplexity, type RowOrder } from './connection.ts'
import { containing } from './containing.ts'
import type { SchemaDatabase } from './context.ts'
import { describedEnum } from './described-enum.ts'
import { Disk } from './disk.ts'
import { rowIdOf } from './global-id.ts'
import { Host } from './host.ts'
import { NetworkInterface } from './network-interface.ts'
import { rowNode } from './row-node.ts'

type Row = typeof virtualMachines.$inferSelect

const PowerState = describedEnum<Row['power']>('PowerState', 'Whether a virtual machine runs.', {
  RUNNING: 'Its processors run.',
  SUSPENDED: 'Its processors stand still, and its memory is kept.',
  STOPPED: 'It is off.',
  UNKNOWN: 'The provider could not tell. Never read as stopped.',
})

const Firmware = describedEnum<Row['firmware']>('Firmware', 'What starts the boot loader.', {
  BIOS: 'A PC BIOS.',
  UEFI: 'UEFI.',
})

const Endpoint = builder.objectRef<Row['endpoints'][number]>('Endpoint').implement({
  description: "Where a TCP port of a guest is reached, where that is elsewhere than at the guest's own address.",
  fields: (t) => ({
    guestPort: t.exposeInt('guestPort', { description: 'The port as the guest knows it.' }),
    host: t.exposeString('host', { description: 'The address or name to connect to.' }),
    port: t.exposeInt('port', { description: 'The port to connect to.' }),
  }),
})

export const VirtualMachine = rowNode('VirtualMachine', virtualMachines)
VirtualMachine.implement({
  description: 'A virtual machine as its cloud last described it.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'Its name in its cloud; not unique, and never what it is recognised by.' }),
    providerId: t.exposeString('providerId', { description: "The provider's id of it." }),
    uniqueId: t.exposeString('uniqueId', { description: 'Its SMBIOS UUID in lower case: the same in every cloud it is moved to.' }),
    power: t.expose('power', { type: PowerState, description: 'Whether it runs.' }),
    present: t.exposeBoolean('present', {
      description: 'False when the last complete read of its cloud did not contain it. Missing is not stopped.',
    }),
    seenAt: t.expose('seenAt', { type: 'DateTime', description: 'When its cloud last described it.' }),
    architecture: t.field({
      type: Architecture,
      description: 'What its processors run.',
      resolve: (vm) => vm.architecture as ArchitectureName,
    }),
    firmware: t.expose('firmware', { type: Firmware, description: 'What starts its boot loader.' }),
    cpuCount: t.exposeInt('cpuCount', { description: 'Virtual processors.' }),
    memoryBytes: t.expose('memoryBytes', { type: 'ByteCount', description: 'Memory, in bytes.' }),
    cloud: t.field({ type: Cloud, description: 'The cloud that runs it.', resolve: (vm) => vm.cloudId }),
    host: t.field({
      type: Host,
      nullable: true,
      description: 'The host that runs it; null where the provider does not tell.',
      resolve: (vm) => vm.hostId,
    }),
    endpoints: t.expose('endpoints', {
      type: [Endpoint],
      description: 'Ports that are reached elsewhere than at its addresses; mostly none.',
    }),
    disks: t.field({
      type: [Disk],
      description: 'Its disks, in the order that the guest sees.',
      resolve: (vm, _, { db }) => db.select().from(disks).where(eq(disks.virtualMachineId, vm.id)).orderBy(disks.index),
    }),
    networkInterfaces: t.field({
      type: [NetworkInterface],
      description: 'Its network interfaces, in the order that the guest sees.',
      resolve: (vm, _, { db }) => db.select().from(nics).where(eq(nics.virtualMachineId, vm.id)).orderBy(nics.index),
    }),
  }),
})

const VirtualMachineConnection = connectionType('VirtualMachine', 'virtual machines', VirtualMachine)

const orders = {
  NAME_ASC: { column: virtualMachines.name, direction: 'ASC' },
  NAME_DESC: { column: virtualMachines.name, direction: 'DESC' },
  MEMORY_DESC: { column: virtualMachines.memoryBytes, direction: 'DESC' },
} satisfies Record<string, RowOrder>

const VirtualMachineOrder = describedEnum<keyof typeof orders>('VirtualMachineOrder', 'Orders of virtual machines.', {
  NAME_ASC: 'By name, from A to Z.',
  NAME_DESC: 'By name, from Z to A.',
  MEMORY_DESC: 'Largest memory first.',
})

const VirtualMachineFilter = builder.inputType('VirtualMachineFilter', {
  description: 'Which virtual machines: those that meet every condition given.',
  fields: (t) => ({
    cloudId: t.id({ description: 'Of this cloud.' }),
    hostId: t.id({ description: 'On this host.' }),
    nameContains: t.string({ description: 'Part of the name, upper or lower case.' }),
    uniqueId: t.string({ description: 'With this SMBIOS UUID.' }),
    power: t.field({ type: [PowerState], description: 'In any of these states.' }),
    present: t.boolean({ description: 'True: only those that the last complete read of their cloud contained. False: only the others.' }),
  }),
})

const pageArguments = builder.args((t) => ({
  filter: t.field({ type: VirtualMachineFilter, description: 'Leave away for all.' }),
  orderBy: t.field({ type: VirtualMachineOrder, defaultValue: 'NAME_ASC', required: true, description: 'By name unless said otherwise.' }),
}))

interface PageArguments extends DefaultConnectionArguments {
  filter?: typeof VirtualMachineFilter.$inferInput | null | undefined
  orderBy: keyof typeof orders
}

function virtualMachinePage(db: SchemaDatabase, args: PageArguments, within?: SQL) {
  const { filter } = args
  return page<Row>(db, virtualMachines, {
    args,
    where: [
      within,
      filter?.cloudId ? eq(virtualMachines.cloudId, rowIdOf('Cloud', filter.cloudId, ['filter', 'cloudId'])) : undefined,
      filter?.hostId ? eq(virtualMachines.hostId, rowIdOf('Host', filter.hostId, ['filter', 'hostId'])) : undefined,
      containing(virtualMachines.name, filter?.nameContains),
      filter?.uniqueId ? eq(virtualMachines.uniqueId, filter.uniqueId.toLowerCase()) : undefined,
      anyOf(virtualMachines.power, filter?.power, ['filter', 'power']),
      typeof filter?.present === 'boolean' ? eq(virtualMachines.present, filter.present) : undefined,
    ],
    order: orders[args.orderBy],
    orderValue: (row) => (args.orderBy === 'MEMORY_DESC' ? row.memoryBytes : row.name),
  })
}

builder.queryField('virtualMachines', (t) =>
  t.connection(
    {
      type: VirtualMachine,
      authScopes: { viewer: true },
      description: 'The virtual machines of all clouds.',
      complexity: pageComplexity,
      args: pageArguments,
      resolve: (_, args, { db }) => virtualMachinePage(db, args),
    },
    VirtualMachineConnection,
  ),
)

builder.objectField(Cloud, 'virtualMachines', (t) =>
  t.connection(
    {
      type: VirtualMachine,
      description: 'Its virtual machines.',
      complexity: pageComplexity,
      args: pageArguments,
      resolve: (cloud, args, { db }) => virtualMachinePage(db, args, eq(virtualMachines.cloudId, cloud.id)),
    },
    VirtualMachineConnection,
  ),
)
