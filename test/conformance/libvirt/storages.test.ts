/** Disks in another storage pool than everything else, through a destination's whole life; and volumes by their paths. */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import plugin from '../../../plugins/libvirt/index.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'
import { artifacts } from '../../../setup/artifacts.ts'
import { startPrivateLibvirt, type PrivateLibvirt } from '../../../src/cli/private-site/start-private-libvirt.ts'
import type { ProviderConnection } from '../../../src/plugin-sdk/index.ts'

let directory: string
let site: PrivateLibvirt
let cloud: ProviderConnection
const virsh = (...args: string[]) => promisify(execFile)('virsh', ['--quiet', '--connect', site.uri, ...args], { timeout: 60_000 })
const operation = () => ({ operationId: randomUUID() })
const mebibyte = 1024 * 1024

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-pools-'))
  site = await startPrivateLibvirt({ directory: join(directory, 'site') })
  await mkdir(join(directory, 'fast'))
  await virsh('pool-create-as', '--name', 'fast', '--type', 'dir', '--target', join(directory, 'fast'))
  await writeFile(join(directory, 'empty-initrd'), Buffer.alloc(512))
  const options = libvirtOptions.parse({ uri: site.uri, storagePools: ['fast'] })
  cloud = await plugin.connect(options, { signal: new AbortController().signal, log: () => undefined })
})
afterAll(async () => {
  await site?.stop()
  await rm(directory, { recursive: true, force: true })
})

const virtualMachine = (storageId: string) => ({
  name: `stored ${randomUUID().slice(0, 8)}`,
  uniqueId: randomUUID(),
  cpuCount: 1,
  memoryBytes: 128 * mebibyte,
  firmware: 'BIOS' as const,
  disks: [
    { index: 0, sizeBytes: 4 * mebibyte, storageId },
    { index: 1, sizeBytes: 2 * mebibyte },
  ],
  nics: [{ index: 0, mac: '52:54:00:11:22:44', networkId: 'default' }],
})
const landing = () => ({
  kernelPath: artifacts().landing.kernelPath,
  initrdPath: join(directory, 'empty-initrd'),
  commandLine: 'console=ttyS0 quiet panic=0',
  memoryBytes: 128 * mebibyte,
})

test('a destination has its disks where it was told, through test, seal, boot and merge, and leaves nothing there', async () => {
  const { destination, network, virtualMachines } = cloud
  const [host] = (await cloud.discoverTopology({})).regions[0]!.zones[0]!.hosts
  expect(host?.storages).toMatchObject([{ id: 'default' }, { id: 'fast', name: 'fast', freeBytes: expect.any(Number) }])

  const vm = virtualMachine('fast')
  const { vmId } = await destination.instantiate({ ...operation(), virtualMachine: vm, landing: landing(), inject: [], inboundPorts: [] })
  const path = join(directory, 'fast', (await readdir(join(directory, 'fast')))[0]!)
  const places = [{ storageId: 'fast', backingPath: path, sizeBytes: 4 * mebibyte }, { storageId: 'default' }]
  const expectPlaces = async (when: string) => expect((await virtualMachines.describe({ vmId })).disks, when).toMatchObject(places)
  await expectPlaces('made')
  await destination.testBoot!.start({ ...operation(), vmId, testId: 't', inboundPorts: [] })
  await expectPlaces('in a test')
  await destination.testBoot!.remove({ ...operation(), vmId, testId: 't' })
  await destination.sealCopiedDisks({ ...operation(), vmId })
  await expectPlaces('sealed')
  await destination.bootFromCopiedDisk({ ...operation(), vmId })
  await destination.discardOverlay({ ...operation(), vmId, inject: [] })
  await expectPlaces('back at the landing image')
  await destination.sealCopiedDisks({ ...operation(), vmId })
  await destination.bootFromCopiedDisk({ ...operation(), vmId })
  await network.expose({ ...operation(), vmId })
  await destination.flattenOverlay({ ...operation(), vmId })
  await expectPlaces('merged')
  expect((await virtualMachines.console!({ vmId })).text).toEqual(expect.any(String))
  await destination.delete({ ...operation(), vmId })
  expect(await readdir(join(directory, 'fast'))).toEqual([])
  expect(await readdir(join(directory, 'site', 'pool'))).toEqual([])
})

test('an unknown storage is refused before anything changes, and a console that nobody wrote to is empty', async () => {
  const request = { ...operation(), virtualMachine: virtualMachine('slow'), landing: landing(), inject: [], inboundPorts: [] }
  await expect(cloud.destination.instantiate(request)).rejects.toMatchObject({
    code: 'NOT_FOUND',
    message: expect.stringContaining('"slow"'),
    remedy: expect.stringContaining('default, fast'),
  })
  expect((await cloud.discoverTopology({})).virtualMachines).toEqual([])

  const imagePath = join(directory, 'image.raw')
  await writeFile(imagePath, Buffer.alloc(mebibyte))
  const { vmId } = await cloud.virtualMachines.create!({
    ...operation(),
    virtualMachine: virtualMachine('fast'),
    imagePath,
    inboundPorts: [],
  })
  expect(await cloud.virtualMachines.console!({ vmId })).toEqual({ text: '' })
  await cloud.virtualMachines.delete!({ ...operation(), vmId })
  expect(await readdir(join(directory, 'fast'))).toEqual([])
})
