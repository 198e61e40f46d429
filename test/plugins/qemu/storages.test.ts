import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { qemuOptions } from '../../../plugins/qemu/options.ts'
import { bareLanding, bootDisk } from './support/bare-metal.ts'
import { connect, fileText, mebibyte, openCloud, smallMachine, type TestCloud, until } from './support/cloud.ts'

let directory: string
let cloud: TestCloud
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-storage-'))
  cloud = await openCloud({ storages: [{ id: 'fast', directory: join(directory, 'fast') }] })
})
afterEach(async () => {
  await cloud.close()
  await rm(directory, { recursive: true, force: true })
})
const operation = () => ({ operationId: randomUUID() })
const onFast = () => readdir(join(directory, 'fast'))
const disks = [
  { index: 0, sizeBytes: 4 * mebibyte, storageId: 'fast' },
  { index: 1, sizeBytes: 2 * mebibyte },
]

test('the topology shows the storages with their room; a cloud with one place shows none', async () => {
  const host = async ({ connection }: TestCloud) => (await connection.discoverTopology({})).regions[0]?.zones[0]?.hosts[0]
  expect((await host(cloud))?.storages).toMatchObject([
    { id: 'state' },
    { id: 'fast', name: join(directory, 'fast'), freeBytes: expect.any(Number) },
  ])
  const plain = await openCloud()
  expect(await host(plain)).not.toHaveProperty('storages')
  await plain.close()
})

test('a destination has its disks where it was told, through seal, boot, test and merge, and leaves nothing there', async () => {
  const { destination, virtualMachines } = cloud.connection
  const landing = await bareLanding(join(cloud.stateDirectory, 'artifacts'))
  const request = { ...operation(), virtualMachine: smallMachine({ disks }), landing, inject: [], inboundPorts: [] }
  const { vmId } = await destination.instantiate(request)
  expect((await virtualMachines.describe({ vmId })).disks).toMatchObject([{ storageId: 'fast' }, { storageId: 'state' }])
  expect(await onFast()).toEqual([`${vmId}-disk-0.raw`])
  const disk = join(directory, 'fast', `${vmId}-disk-0.raw`)
  await writeFile(disk, bootDisk(4 * mebibyte), { flag: 'r+' })

  const { vmId: testVm } = await destination.testBoot!.start({ ...operation(), vmId, testId: 't', inboundPorts: [] })
  await until(async () => (await fileText(cloud.machineFile(testVm, 'serial.log'))).includes('D'))
  await destination.testBoot!.remove({ ...operation(), vmId, testId: 't' })
  await destination.sealCopiedDisks({ ...operation(), vmId })
  await destination.bootFromCopiedDisk({ ...operation(), vmId })
  await until(async () => (await fileText(cloud.machineFile(vmId, 'serial.log'))).includes('D'))
  expect((await readFile(disk)).equals(bootDisk(4 * mebibyte))).toBe(true)
  await destination.flattenOverlay({ ...operation(), vmId })
  expect((await readFile(disk)).equals(bootDisk(4 * mebibyte))).toBe(false)
  await destination.delete({ ...operation(), vmId })
  expect(await onFast()).toEqual([])
})

test('a virtual machine is made from an image on another storage', async () => {
  const imagePath = join(directory, 'image.raw')
  await writeFile(imagePath, bootDisk(1 * mebibyte))
  const request = { ...operation(), virtualMachine: smallMachine({ disks }), imagePath, inboundPorts: [] }
  const { vmId } = await cloud.connection.virtualMachines.create!(request)
  expect((await stat(join(directory, 'fast', `${vmId}-disk-0.raw`))).size).toBe(4 * mebibyte)
  await cloud.connection.virtualMachines.start({ ...operation(), vmId })
  await until(async () => (await fileText(cloud.machineFile(vmId, 'serial.log'))).includes('D'))
})

test('an unknown storage is refused before anything changes', async () => {
  const landing = await bareLanding(join(cloud.stateDirectory, 'artifacts'))
  const virtualMachine = smallMachine({ disks: [{ index: 0, sizeBytes: mebibyte, storageId: 'slow' }] })
  const refused = cloud.connection.destination.instantiate({ ...operation(), virtualMachine, landing, inject: [], inboundPorts: [] })
  await expect(refused).rejects.toMatchObject({
    code: 'NOT_FOUND',
    message: expect.stringContaining('"slow"'),
    remedy: expect.stringContaining('fast'),
  })
  expect(await readdir(join(cloud.stateDirectory, 'machines'))).toEqual([])
})

test('what an interrupted creation left in a storage is swept away by the next connection', async () => {
  const vmId = randomUUID()
  await mkdir(join(cloud.stateDirectory, 'machines', `.creating-${vmId}`))
  await writeFile(join(directory, 'fast', `${vmId}-disk-0.raw`), '')
  await connect(cloud.stateDirectory, { storages: [{ id: 'fast', directory: join(directory, 'fast') }] })
  expect(await onFast()).toEqual([])
})

test.each([
  [[{ id: 'state', directory: '/x' }]],
  [[{ id: 'a', directory: 'relative' }]],
  [[{ id: '../a', directory: '/x' }]],
  [['a', 'a'].map((id) => ({ id, directory: `/${id}` }))],
])('the option storages refuses %j', (storages) => {
  expect(qemuOptions.safeParse({ stateDirectory: '/s', storages }).success).toBe(false)
})
