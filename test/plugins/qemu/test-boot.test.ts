/** A copy is booted for a test while its landing image goes on receiving. What the migration agent writes is written here through QEMU's monitor. */
import { randomUUID } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { bareLanding, bootDisk, counterOffset } from './support/bare-metal.ts'
import { fileText, mebibyte, openCloud, smallMachine, type TestCloud, until } from './support/cloud.ts'
import { killDuring } from './support/killed-call.ts'
import { holds, receive as receiveIn } from './support/receive.ts'

let cloud: TestCloud
let vmId: string
const testId = 'test-1'
const operation = () => ({ operationId: randomUUID(), vmId })
const boot = () => cloud.connection.destination.testBoot!
const serial = (id: string) => fileText(cloud.machineFile(id, 'serial.log'))
const disk = () => readFile(cloud.machineFile(vmId, 'disk-0.raw'))
const machines = () => readdir(join(cloud.stateDirectory, 'machines'))

beforeEach(async () => {
  cloud = await openCloud()
  const landing = await bareLanding(join(cloud.stateDirectory, 'artifacts'))
  const request = { operationId: randomUUID(), virtualMachine: smallMachine(), landing, inject: [], inboundPorts: [] }
  vmId = (await cloud.connection.destination.instantiate(request)).vmId
  await writeFile(cloud.machineFile(vmId, 'disk-0.raw'), bootDisk(4 * mebibyte), { flag: 'r+' })
})
afterEach(() => cloud.close())

const receive = (block: number, byte: number) => receiveIn(cloud, vmId, block, byte)
const received = async (block: number, byte: number) => holds(await disk(), block, byte)

test('the copy boots as it is at the call, isolated, while the landing image receives; afterwards all of that is in the copy, and nothing else is left', async () => {
  await receive(20, 1)
  const request = { ...operation(), testId, inboundPorts: [8080] }
  const { vmId: testVm } = await boot().start(request)
  expect(await boot().start({ ...request, ...operation() }), 'sent again').toEqual({ vmId: testVm })
  await until(async () => (await serial(testVm)).includes('D'))
  const before = await disk()

  await receive(21, 2)
  await until(async () => (await serial(testVm)).length > 5)
  await receive(22, 3)
  expect((await disk()).equals(before), 'the copied disk stands still').toBe(true)
  const described = await cloud.connection.virtualMachines.describe({ vmId: testVm })
  const [
    {
      uniqueId,
      nics: [nic],
    },
  ] = [await cloud.connection.virtualMachines.describe({ vmId })]
  expect(described).toMatchObject({ power: 'RUNNING', name: 'web (test)' })
  expect(described.uniqueId).not.toBe(uniqueId)
  expect(described.nics[0]?.mac).not.toBe(nic?.mac)
  expect(await cloud.connection.network.reachability({ vmId: testVm, guestPort: 8080 })).toMatchObject({
    fromControlPlane: { host: '127.0.0.1' },
    controlPlaneFromGuest: null,
  })
  await cloud.connection.virtualMachines.stop({ operationId: randomUUID(), vmId: testVm, force: true })
  await cloud.connection.virtualMachines.start({ operationId: randomUUID(), vmId: testVm })

  await boot().remove({ ...operation(), testId })
  await boot().remove({ ...operation(), testId })
  expect(await received(20, 1)).toBe(true)
  expect(await received(21, 2)).toBe(true)
  expect(await received(22, 3)).toBe(true)
  expect((await disk()).readUInt16LE(counterOffset), 'what the test counted').toBe(0)
  expect(await machines()).toEqual([vmId])
  expect(await readdir(cloud.machineFile(vmId, ''))).not.toContain('overlay-0.qcow2')
  await receive(23, 4)
  expect(await received(23, 4)).toBe(true)
  await cloud.connection.destination.sealCopiedDisks(operation())
})

test('while a test runs, no step begins that needs its disks, and it never reaches a network or the copy', async () => {
  const { destination, network } = cloud.connection
  const { vmId: testVm } = await boot().start({ ...operation(), testId, inboundPorts: [] })
  const refused = { code: 'CONFLICT', retryable: false }
  await expect(destination.sealCopiedDisks(operation())).rejects.toMatchObject(refused)
  await expect(destination.bootFromCopiedDisk(operation())).rejects.toMatchObject(refused)
  await expect(boot().start({ ...operation(), testId: 'test-2', inboundPorts: [] })).rejects.toMatchObject(refused)
  await expect(network.expose({ operationId: randomUUID(), vmId: testVm })).rejects.toMatchObject(refused)
  await expect(destination.flattenOverlay({ operationId: randomUUID(), vmId: testVm })).rejects.toMatchObject(refused)
  await destination.delete(operation())
  expect(await machines()).toEqual([])
  await boot().remove({ ...operation(), testId })
})

test('after a power cut in the middle of a test, the copy is taken up again with all that it had received', async () => {
  await boot().start({ ...operation(), testId, inboundPorts: [] })
  await receive(21, 2)
  for (const id of await machines()) process.kill(Number(await readFile(cloud.machineFile(id, 'qemu.pid'), 'utf8')), 'SIGKILL')
  await until(async () => (await cloud.connection.virtualMachines.describe({ vmId })).power === 'STOPPED')
  await cloud.connection.destination.discardOverlay({ ...operation(), inject: [] })
  expect(await machines()).toEqual([vmId])
  expect(await received(21, 2)).toBe(true)
  await receive(22, 3)
  expect(await received(22, 3)).toBe(true)
})

test('stopped with force in the middle of a test, the test ends too, and the copy is taken up again with all that it had received', async () => {
  await boot().start({ ...operation(), testId, inboundPorts: [] })
  await receive(21, 2)
  await cloud.connection.virtualMachines.stop({ ...operation(), force: true })
  expect(await cloud.connection.virtualMachines.describe({ vmId })).toMatchObject({ power: 'STOPPED' })
  expect(await machines()).toEqual([vmId])
  await cloud.connection.destination.discardOverlay({ ...operation(), inject: [] })
  expect(await received(21, 2)).toBe(true)
  await receive(22, 3)
  expect(await received(22, 3)).toBe(true)
})

test.each([0.1, 0.35, 0.6, 0.85])('killed at %f of each call, a repeated call tests, and ends the test, completely', async (point) => {
  const start = { ...operation(), testId, inboundPorts: [] }
  await killDuring(cloud.stateDirectory, 'destination.testBoot.start', start, 600 * point)
  await receive(20, 1)
  const { vmId: testVm } = await boot().start(start)
  await until(async () => (await serial(testVm)).includes('D'))
  await receive(21, 2)
  const remove = { ...operation(), testId }
  await killDuring(cloud.stateDirectory, 'destination.testBoot.remove', remove, 500 * point)
  await boot().remove(remove)
  expect(await cloud.connection.virtualMachines.describe({ vmId })).toMatchObject({ power: 'RUNNING' })
  await receive(22, 3)
  for (const [block, byte] of [
    [20, 1],
    [21, 2],
    [22, 3],
  ] as const)
    expect(await received(block, byte)).toBe(true)
  expect(await machines()).toEqual([vmId])
})
