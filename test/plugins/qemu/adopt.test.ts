/** A VM that was left, off and fenced, becomes a destination again, and is given back or goes on with what it received. */
import { randomUUID } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { AdoptRequest, LandingImage } from '../../../src/plugin-sdk/index.ts'
import { bareLanding, bootDisk } from './support/bare-metal.ts'
import { fileText, mebibyte, openCloud, smallMachine, type TestCloud, until } from './support/cloud.ts'
import { killDuring } from './support/killed-call.ts'
import { holds, receive } from './support/receive.ts'

let cloud: TestCloud
let landing: LandingImage
let vmId: string
let before: { files: string[]; description: unknown; disk: Buffer }
const fenceId = 'left.1.1'

const operation = () => ({ operationId: randomUUID(), vmId })
const adoption = () => cloud.connection.destination.adopt!
const request = (): AdoptRequest => ({ ...operation(), fenceId, landing, inject: [], inboundPorts: [7443] })
const disk = () => readFile(cloud.machineFile(vmId, 'disk-0.raw'))
const files = async () => (await readdir(cloud.machineFile(vmId, ''))).filter((name) => !/\.(log|sock|pid)$/.test(name)).toSorted()
const serial = () => fileText(cloud.machineFile(vmId, 'serial.log'))
const power = async () => (await cloud.connection.virtualMachines.describe({ vmId })).power

beforeEach(async () => {
  cloud = await openCloud()
  landing = await bareLanding(join(cloud.stateDirectory, 'artifacts'))
  const image = join(cloud.stateDirectory, 'image')
  await writeFile(image, bootDisk(4 * mebibyte))
  const { virtualMachines, fencing } = cloud.connection
  vmId = (
    await virtualMachines.create!({ operationId: randomUUID(), virtualMachine: smallMachine(), imagePath: image, inboundPorts: [8080] })
  ).vmId
  await fencing!.fence({ ...operation(), fenceId })
  before = { files: await files(), description: await virtualMachines.describe({ vmId }), disk: await disk() }
})
afterEach(() => cloud.close())

async function expectAsItWas(): Promise<void> {
  expect(await cloud.connection.virtualMachines.describe({ vmId })).toEqual(before.description)
  expect(await cloud.connection.fencing!.confirm({ vmId })).toMatchObject({ fenceId, fenced: true, power: 'STOPPED' })
  expect(await files()).toEqual(before.files)
  expect((await disk()).equals(before.disk)).toBe(true)
}

test('what it receives, and what its copy writes once it boots, is not in its own disk, and is gone when it is given back', async () => {
  await adoption().start(request())
  await until(async () => (await serial()).includes('L'))
  expect(await cloud.connection.network.reachability({ vmId, guestPort: 7443 })).toMatchObject({ controlPlaneFromGuest: '10.0.2.2' })
  await receive(cloud, vmId, 20, 1)
  await cloud.connection.destination.sealCopiedDisks(operation())
  await cloud.connection.destination.bootFromCopiedDisk(operation())
  await until(async () => (await serial()).includes('D'))
  expect((await disk()).equals(before.disk)).toBe(true)
  await adoption().giveBack(operation())
  await expectAsItWas()
  await adoption().giveBack(operation())
  await expectAsItWas()
})

test('once it was exposed, it is not given back any more, and all that it received goes into its own disk while it runs', async () => {
  const { destination, network, virtualMachines } = cloud.connection
  await adoption().start(request())
  await receive(cloud, vmId, 20, 1)
  await destination.sealCopiedDisks(operation())
  await destination.bootFromCopiedDisk(operation())
  await until(async () => (await serial()).includes('D'))
  await network.expose(operation())
  await expect(adoption().giveBack(operation())).rejects.toMatchObject({ code: 'CONFLICT', retryable: false })
  await destination.flattenOverlay(operation())
  await destination.flattenOverlay(operation())
  expect(await power()).toBe('RUNNING')
  expect(holds(await disk(), 20, 1)).toBe(true)
  expect(await files()).toEqual(before.files)
  await virtualMachines.stop({ ...operation(), force: true })
  await virtualMachines.start(operation())
  await adoption().giveBack(operation())
  expect(await power(), 'it is its own again').toBe('RUNNING')
})

test('what it received goes into its own disk also where it is off by then', async () => {
  const { destination, virtualMachines } = cloud.connection
  await adoption().start(request())
  await receive(cloud, vmId, 20, 1)
  await destination.sealCopiedDisks(operation())
  await destination.bootFromCopiedDisk(operation())
  await virtualMachines.stop({ ...operation(), force: true })
  await destination.flattenOverlay(operation())
  expect(holds(await disk(), 20, 1)).toBe(true)
  expect(await files()).toEqual(before.files)
})

test('its landing image boots again after a power cut, over what it had received', async () => {
  await adoption().start(request())
  await receive(cloud, vmId, 20, 1)
  await cloud.connection.virtualMachines.stop({ ...operation(), force: true })
  await cloud.connection.destination.discardOverlay({ ...operation(), inject: [] })
  await receive(cloud, vmId, 21, 2)
  await cloud.connection.destination.sealCopiedDisks(operation())
  await cloud.connection.destination.bootFromCopiedDisk(operation())
  await cloud.connection.destination.flattenOverlay(operation())
  for (const [block, byte] of [[20, 1] as const, [21, 2] as const]) expect(holds(await disk(), block, byte)).toBe(true)
})

test('a test of what is carried back leaves its own disk alone', async () => {
  const { destination } = cloud.connection
  await adoption().start(request())
  await receive(cloud, vmId, 20, 1)
  const { vmId: testVm } = await destination.testBoot!.start({ ...operation(), testId: 't', inboundPorts: [] })
  await until(async () => (await fileText(cloud.machineFile(testVm, 'serial.log'))).includes('D'))
  await receive(cloud, vmId, 21, 2)
  await destination.testBoot!.remove({ ...operation(), testId: 't' })
  expect((await disk()).equals(before.disk)).toBe(true)
  await destination.testBoot!.start({ ...operation(), testId: 'u', inboundPorts: [] })
  await adoption().giveBack(operation())
  expect(await readdir(join(cloud.stateDirectory, 'machines'))).toEqual([vmId])
  await expectAsItWas()
})

test('one that runs, is fenced by another, or is a destination already is left as it is', async () => {
  const refused = { code: 'CONFLICT', retryable: false }
  await expect(adoption().start({ ...request(), fenceId: 'another.1.1' })).rejects.toMatchObject(refused)
  await expect(adoption().start({ ...request(), fenceId: null })).rejects.toMatchObject(refused)
  await expectAsItWas()
  await cloud.connection.fencing!.release({ ...operation(), fenceId })
  await cloud.connection.virtualMachines.start(operation())
  await expect(adoption().start(request())).rejects.toMatchObject(refused)
  expect(await power()).toBe('RUNNING')
  await cloud.connection.virtualMachines.stop({ ...operation(), force: true })
  await adoption().start(request())
  await expect(adoption().start(request())).rejects.toMatchObject(refused)
})

test.each([0.1, 0.35, 0.6, 0.85])('killed at %f of each call, a repeated call adopts it, and gives it back, completely', async (point) => {
  const start = request()
  await killDuring(cloud.stateDirectory, 'destination.adopt.start', start, 600 * point)
  await adoption().start(start)
  await receive(cloud, vmId, 20, 1)
  const back = operation()
  await killDuring(cloud.stateDirectory, 'destination.adopt.giveBack', back, 300 * point)
  await adoption().giveBack(back)
  await expectAsItWas()
})

test.each([0.1, 0.35, 0.6, 0.85])('killed at %f of the merge, a repeated call ends it, and the guest runs on', async (point) => {
  const { destination, network } = cloud.connection
  await adoption().start(request())
  await receive(cloud, vmId, 20, 1)
  await destination.sealCopiedDisks(operation())
  await destination.bootFromCopiedDisk(operation())
  await network.expose(operation())
  const flatten = operation()
  await killDuring(cloud.stateDirectory, 'destination.flattenOverlay', flatten, 200 * point)
  await destination.flattenOverlay(flatten)
  expect(await power()).toBe('RUNNING')
  await receive(cloud, vmId, 21, 2)
  for (const [block, byte] of [[20, 1] as const, [21, 2] as const]) expect(holds(await disk(), block, byte)).toBe(true)
  expect(await files()).toEqual(before.files)
})
