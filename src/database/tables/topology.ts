import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import { clouds } from './cloud.ts'

/** What discoverTopology last saw, one row a thing. `id` is ours: `<cloudId>/<provider's id>`. `seenAt` is the read that last saw it. */
const cloudId = () =>
  text()
    .notNull()
    .references(() => clouds.id, { onDelete: 'cascade' })

export const regions = sqliteTable('regions', {
  id: text().primaryKey(),
  cloudId: cloudId(),
  providerId: text().notNull(),
  name: text().notNull(),
})
export const zones = sqliteTable('zones', {
  id: text().primaryKey(),
  cloudId: cloudId(),
  regionId: text().notNull(),
  providerId: text().notNull(),
  name: text().notNull(),
})
export const hosts = sqliteTable('hosts', {
  id: text().primaryKey(),
  cloudId: cloudId(),
  zoneId: text().notNull(),
  providerId: text().notNull(),
  name: text().notNull(),
  architecture: text().notNull(),
  cpuCount: integer().notNull(),
  memoryBytes: integer().notNull(),
  freeMemoryBytes: integer(),
  freeDiskBytes: integer(),
})
export const networks = sqliteTable('networks', {
  id: text().primaryKey(),
  cloudId: cloudId(),
  providerId: text().notNull(),
  name: text().notNull(),
})
export const subnets = sqliteTable('subnets', {
  id: text().primaryKey(),
  cloudId: cloudId(),
  networkId: text().notNull(),
  providerId: text().notNull(),
  name: text().notNull(),
  cidr: text().notNull(),
})
export const virtualMachines = sqliteTable(
  'virtual_machines',
  {
    id: text().primaryKey(),
    cloudId: cloudId(),
    providerId: text().notNull(),
    uniqueId: text().notNull(),
    name: text().notNull(),
    power: text({ enum: ['RUNNING', 'SUSPENDED', 'STOPPED', 'UNKNOWN'] }).notNull(),
    hostId: text().notNull(),
    architecture: text().notNull(),
    firmware: text({ enum: ['BIOS', 'UEFI'] }).notNull(),
    cpuCount: integer().notNull(),
    memoryBytes: integer().notNull(),
    endpoints: text({ mode: 'json' }).$type<{ guestPort: number; host: string; port: number }[]>().notNull().default([]),
    /** False when the last complete read of the cloud did not contain it: missing is not stopped. */
    present: integer({ mode: 'boolean' }).notNull(),
    seenAt: integer({ mode: 'timestamp_ms' }).notNull(),
  },
  (table) => [index('virtual_machines_cloud').on(table.cloudId), index('virtual_machines_unique').on(table.uniqueId)],
)
export const disks = sqliteTable('disks', {
  id: text().primaryKey(),
  virtualMachineId: text().notNull(),
  cloudId: cloudId(),
  providerId: text().notNull(),
  index: integer().notNull(),
  sizeBytes: integer().notNull(),
  bus: text().notNull(),
  /** Which of its host's storages it is on, where the provider tells. */
  storageId: text(),
})
export const nics = sqliteTable('nics', {
  id: text().primaryKey(),
  virtualMachineId: text().notNull(),
  cloudId: cloudId(),
  networkId: text().notNull(),
  index: integer().notNull(),
  mac: text().notNull(),
  addresses: text({ mode: 'json' }).$type<string[]>().notNull(),
})
