/** A fence keeps a VM from running: from now on, over a power cut of its host, and wherever the plugin is killed meanwhile. */
import { randomUUID } from 'node:crypto'
import { readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { withQmp } from '../../../plugins/qemu/qmp.ts'
import { bareLanding, bootDisk, counterOffset, sleepingDisk } from './support/bare-metal.ts'
import { connect, mebibyte, openCloud, smallMachine, type TestCloud, until } from './support/cloud.ts'
import { killDuring } from './support/killed-call.ts'

let cloud: TestCloud
beforeEach(async () => {
  cloud = await openCloud()
})
afterEach(() => cloud.close())

const fenceId = 'migration-7.1'
const on = (vmId: string) => ({ operationId: randomUUID(), vmId, fenceId })
const fencing = () => cloud.connection.fencing!
const confirm = (vmId: string) => fencing().confirm({ vmId })
const countOf = async (vmId: string) => (await readFile(cloud.machineFile(vmId, 'disk-0.raw'))).readUInt16LE(counterOffset)

async function running(image = bootDisk(1 * mebibyte)): Promise<string> {
  const imagePath = join(cloud.stateDirectory, 'image.raw')
  await writeFile(imagePath, image)
  const create = cloud.connection.virtualMachines.create!
  const { vmId } = await create({ operationId: randomUUID(), virtualMachine: smallMachine(), imagePath, inboundPorts: [] })
  await cloud.connection.virtualMachines.start(on(vmId))
  await until(async () => (await countOf(vmId)) > 0)
  return vmId
}
/** As when the host loses its power. */
async function losePower(vmId: string) {
  process.kill(Number(await readFile(cloud.machineFile(vmId, 'qemu.pid'), 'utf8')), 'SIGKILL')
  await until(async () => (await cloud.connection.virtualMachines.describe({ vmId })).power === 'STOPPED')
}

test('armed, a VM runs on, is suspended and resumed; after a power cut nothing starts it until the fence is released', async () => {
  const vmId = await running()
  await fencing().arm(on(vmId))
  await fencing().arm(on(vmId))
  expect(await confirm(vmId)).toEqual({ fenceId, armed: true, fenced: false, power: 'RUNNING' })
  await cloud.connection.virtualMachines.start(on(vmId))
  await cloud.connection.virtualMachines.suspend(on(vmId))
  expect(await confirm(vmId)).toMatchObject({ armed: true, fenced: false, power: 'SUSPENDED' })
  await cloud.connection.virtualMachines.resume(on(vmId))
  const before = await countOf(vmId)
  await until(async () => (await countOf(vmId)) > before)

  await losePower(vmId)
  const afterwards = await connect(cloud.stateDirectory)
  expect(await afterwards.fencing!.confirm({ vmId })).toEqual({ fenceId, armed: true, fenced: true, power: 'STOPPED' })
  await expect(afterwards.virtualMachines.start(on(vmId))).rejects.toMatchObject({
    code: 'CONFLICT',
    retryable: false,
    message: expect.stringMatching(/is fenced \("migration-7\.1"\) and was not started/),
  })
  expect((await afterwards.virtualMachines.describe({ vmId })).power).toBe('STOPPED')

  await afterwards.fencing!.release({ ...on(vmId), fenceId: 'another' })
  expect((await confirm(vmId)).armed).toBe(true)
  await afterwards.fencing!.release(on(vmId))
  expect(await confirm(vmId)).toEqual({ fenceId: null, armed: false, fenced: false, power: 'STOPPED' })
  await afterwards.virtualMachines.start(on(vmId))
  expect(await confirm(vmId)).toMatchObject({ power: 'RUNNING' })
})

test('fenced, a suspended VM keeps its memory and is not resumed; released, it goes on where it was', async () => {
  const vmId = await running()
  await cloud.connection.virtualMachines.suspend(on(vmId))
  const held = await countOf(vmId)
  await fencing().fence(on(vmId))
  expect(await confirm(vmId)).toEqual({ fenceId, armed: true, fenced: true, power: 'SUSPENDED' })
  await expect(cloud.connection.virtualMachines.resume(on(vmId))).rejects.toMatchObject({ code: 'CONFLICT' })
  expect(await confirm(vmId)).toMatchObject({ fenced: true, power: 'SUSPENDED' })
  await fencing().release(on(vmId))
  expect(await countOf(vmId)).toBe(held)
  await cloud.connection.virtualMachines.resume(on(vmId))
  await until(async () => (await countOf(vmId)) > held)
})

test('fenced while it runs, or while its process does not answer, a VM is powered off', async () => {
  const vmId = await running()
  await fencing().fence(on(vmId))
  expect(await confirm(vmId)).toEqual({ fenceId, armed: true, fenced: true, power: 'STOPPED' })
  await fencing().release(on(vmId))
  await cloud.connection.virtualMachines.start(on(vmId))
  process.kill(Number(await readFile(cloud.machineFile(vmId, 'qemu.pid'), 'utf8')), 'SIGSTOP')
  await fencing().fence(on(vmId))
  expect(await confirm(vmId)).toMatchObject({ fenced: true, power: 'STOPPED' })
})

test('a guest that sleeps can wake at any time: it does not count as suspended, and fenced it is powered off', async () => {
  const vmId = await running(sleepingDisk(1 * mebibyte))
  const ask = <Answer>(command: string) =>
    withQmp(cloud.machineFile(vmId, 'status.sock'), {}, (session) => session.execute<Answer>(command))
  await until(async () => (await ask<{ status: string }>('query-status')).status === 'suspended')
  expect(await confirm(vmId)).toMatchObject({ power: 'UNKNOWN' })
  await expect(cloud.connection.virtualMachines.suspend(on(vmId))).rejects.toMatchObject({
    code: 'CONFLICT',
    retryable: true,
    remedy: expect.stringMatching(/^Wake the guest/),
  })
  await fencing().fence(on(vmId))
  expect(await confirm(vmId)).toEqual({ fenceId, armed: true, fenced: true, power: 'STOPPED' })
})

test("another one's fence is a conflict that changes nothing", async () => {
  const vmId = await running()
  await fencing().arm(on(vmId))
  for (const act of ['arm', 'fence'] as const)
    await expect(fencing()[act]({ ...on(vmId), fenceId: 'migration-8.1' })).rejects.toMatchObject({ code: 'CONFLICT' })
  expect(await confirm(vmId)).toEqual({ fenceId, armed: true, fenced: false, power: 'RUNNING' })
})

test('a fenced destination is described, stopped and deleted; no step of it that leads to a start begins', async () => {
  const landing = await bareLanding(join(cloud.stateDirectory, 'artifacts'))
  const { destination, virtualMachines, discoverTopology } = cloud.connection
  const request = { operationId: randomUUID(), virtualMachine: smallMachine(), landing, inject: [], inboundPorts: [] }
  const { vmId } = await destination.instantiate(request)
  await virtualMachines.suspend(on(vmId))
  await fencing().fence(on(vmId))
  for (const step of ['sealCopiedDisks', 'bootFromCopiedDisk', 'flattenOverlay'] as const)
    await expect(destination[step](on(vmId)), step).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('is fenced'),
    })
  await expect(destination.discardOverlay({ ...on(vmId), inject: [] })).rejects.toMatchObject({ code: 'CONFLICT' })
  expect((await discoverTopology({})).virtualMachines).toMatchObject([
    { id: vmId, power: 'SUSPENDED', disks: [{ sizeBytes: 4 * mebibyte }] },
  ])
  await virtualMachines.stop({ ...on(vmId), force: true })
  expect(await confirm(vmId)).toMatchObject({ fenced: true, power: 'STOPPED' })
  await destination.delete(on(vmId))
  await expect(confirm(vmId)).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test.each([0.1, 0.4, 0.7, 1])('killed at %f of each call, a repeated call fences, and releases, completely', async (point) => {
  const vmId = await running()
  const usualMs = 150
  for (const act of ['arm', 'fence', 'release'] as const) {
    const call = on(vmId)
    await killDuring(cloud.stateDirectory, `fencing.${act}`, call, usualMs * point)
    const { armed, fenced, power } = await confirm(vmId)
    expect(fenced, 'fenced is said only of what does not run').toBe(armed && power === 'STOPPED')
    await fencing()[act](call)
    expect(await confirm(vmId)).toMatchObject(
      {
        arm: { armed: true, fenced: false, power: 'RUNNING' },
        fence: { armed: true, fenced: true, power: 'STOPPED' },
        release: { armed: false, fenced: false, power: 'STOPPED' },
      }[act],
    )
  }
})

test('a fence that can not be released since the disk is full is released by the same call once there is room', async () => {
  const vmId = await running()
  await fencing().fence(on(vmId))
  const partial = cloud.machineFile(vmId, '.vm.json.partial')
  await symlink('/dev/full', partial)
  const release = on(vmId)
  await expect(fencing().release(release)).rejects.toMatchObject({ code: 'INSUFFICIENT_CAPACITY', retryable: true })
  expect(await confirm(vmId)).toMatchObject({ fenceId, fenced: true })
  await rm(partial)
  await fencing().release(release)
  expect(await confirm(vmId)).toMatchObject({ fenceId: null, armed: false })
})
