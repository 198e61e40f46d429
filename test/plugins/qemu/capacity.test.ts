import { rename, rm, writeFile } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { freeDiskBytes, freeMemoryBytes } from '../../../plugins/qemu/capacity.ts'
import { openMachineStore } from '../../../plugins/qemu/machine-store.ts'
import { qemuOptions } from '../../../plugins/qemu/options.ts'
import type { Site } from '../../../plugins/qemu/site.ts'
import { bareLanding, bootDisk } from './support/bare-metal.ts'
import { mebibyte, openCloud, smallMachine, type TestCloud } from './support/cloud.ts'

const maxDiskBytes = 64 * mebibyte
let cloud: TestCloud
let site: Site

beforeEach(async () => {
  cloud = await openCloud()
  site = {
    options: qemuOptions.parse({ stateDirectory: cloud.stateDirectory, accelerator: 'tcg', maxDiskBytes }),
    store: await openMachineStore(cloud.stateDirectory, async () => {}),
    host: undefined as never,
    log: () => undefined,
  }
})
afterEach(() => cloud.close())

async function createMachine(): Promise<string> {
  const imagePath = join(cloud.stateDirectory, 'image.raw')
  await writeFile(imagePath, bootDisk(1 * mebibyte))
  const request = { operationId: randomUUID(), virtualMachine: smallMachine(), imagePath, inboundPorts: [] }
  return (await cloud.connection.virtualMachines.create!(request)).vmId
}

/** The site as it is for one who had listed its virtual machines before `happens`. */
async function listedBefore(happens: () => Promise<void>): Promise<Site> {
  const listed = await site.store.list()
  await happens()
  return { ...site, store: { ...site.store, list: async () => listed } }
}

test('a virtual machine that is deleted while room is looked for takes none', async () => {
  const vmId = await createMachine()
  expect(await freeDiskBytes(site)).toBe(maxDiskBytes - 4 * mebibyte)
  const late = await listedBefore(() => rm(site.store.directoryOf(vmId), { recursive: true }))
  expect(await freeDiskBytes(late)).toBe(maxDiskBytes)
})

test('a disk that is gone from under its virtual machine says which storage is not in order, for the time being', async () => {
  const disk = cloud.machineFile(await createMachine(), 'disk-0.raw')
  const away = join(cloud.stateDirectory, 'away')
  await rename(disk, away)
  await expect(freeDiskBytes(site)).rejects.toMatchObject({
    code: 'UNREACHABLE',
    retryable: true,
    message: expect.stringContaining('storage "state"'),
  })
  await rename(away, disk)
  expect(await freeDiskBytes(site)).toBeGreaterThan(0)
})

test('the limit of memory holds for virtual machines that are made at the same time, too', async () => {
  const limited = await openCloud({ maxMemoryBytes: 48 * mebibyte })
  onTestFinished(() => limited.close())
  const landing = await bareLanding(join(limited.stateDirectory, 'artifacts'))
  const made = await Promise.allSettled(
    [1, 2].map(() =>
      limited.connection.destination.instantiate({
        operationId: randomUUID(),
        virtualMachine: smallMachine(),
        landing: { ...landing, memoryBytes: 32 * mebibyte },
        inject: [],
        inboundPorts: [],
      }),
    ),
  )
  const refused = made.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []))
  expect(refused).toEqual([expect.objectContaining({ code: 'INSUFFICIENT_CAPACITY' })])
})

test('a virtual machine that was made, and is off, takes no memory', async () => {
  await createMachine()
  const options = { ...site.options, maxMemoryBytes: 48 * mebibyte }
  expect(await freeMemoryBytes({ ...site, options })).toBe(48 * mebibyte)
})
