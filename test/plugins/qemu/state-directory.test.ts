import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openMachineStore } from '../../../plugins/qemu/machine-store.ts'
import { processOf } from '../../../plugins/qemu/qemu-process.ts'
import { bootDisk } from './support/bare-metal.ts'
import { connect, mebibyte, openCloud, smallMachine, type TestCloud, until } from './support/cloud.ts'

let cloud: TestCloud
let away: string
beforeEach(async () => {
  cloud = await openCloud()
  away = `${cloud.stateDirectory}-away`
})
afterEach(async () => {
  await putBack()
  await cloud.close()
})

async function putBack() {
  if (!existsSync(away)) return
  await rm(cloud.stateDirectory, { force: true, recursive: true })
  await rename(away, cloud.stateDirectory)
}

async function createMachine() {
  const imagePath = join(cloud.stateDirectory, 'image.raw')
  await writeFile(imagePath, bootDisk(1 * mebibyte))
  const { vmId } = await cloud.connection.virtualMachines.create!({
    operationId: randomUUID(),
    virtualMachine: smallMachine(),
    imagePath,
    inboundPorts: [],
  })
  return vmId
}

test.each([
  ['is gone', async () => {}],
  ['is a file now', () => writeFile(cloud.stateDirectory, '')],
])('a state directory that %s is a site that can not be reached, and not an empty one', async (_, putInPlace) => {
  const vmId = await createMachine()
  const record = { key: 'k', writtenAt: new Date().toISOString(), content: {} }
  await cloud.connection.records.put({ operationId: randomUUID(), record })
  await rename(cloud.stateDirectory, away)
  await putInPlace()

  const { discoverTopology, virtualMachines, destination, records, fencing } = cloud.connection
  const operation = () => ({ operationId: randomUUID(), vmId })
  for (const call of [
    () => discoverTopology({}),
    () => virtualMachines.describe({ vmId }),
    () => virtualMachines.console!({ vmId }),
    // As where it goes between a machine's own file, which is read first, and the look for its process.
    () => processOf(join(cloud.stateDirectory, 'machines', vmId), new Map()),
    () => virtualMachines.start(operation()),
    () => destination.delete(operation()),
    () => fencing!.confirm({ vmId }),
    () => fencing!.arm({ ...operation(), fenceId: 'f' }),
    () => records.list({ keyPrefix: '' }),
    () => records.put({ operationId: randomUUID(), record: { ...record, key: 'l' } }),
  ])
    await expect(call(), call.toString()).rejects.toMatchObject({ code: 'UNREACHABLE', retryable: true })

  await putBack()
  expect((await virtualMachines.describe({ vmId })).power).toBe('STOPPED')
  expect(await records.list({ keyPrefix: '' })).toEqual([record])
})

test.each([
  ['is gone', async () => {}],
  ['is the empty place where its file system was mounted', () => mkdir(cloud.stateDirectory)],
])('a cloud that was known before is not made anew where its state directory %s', async (_, putInPlace) => {
  await rename(cloud.stateDirectory, away)
  await putInPlace()
  await expect(connect(cloud.stateDirectory, {}, true)).rejects.toMatchObject({ code: 'UNREACHABLE', retryable: true })
  expect(await readdir(cloud.stateDirectory).catch(() => [])).toEqual([])
  await putBack()
  await connect(cloud.stateDirectory, {}, true)
})

test('a state directory that goes away while a VM is locked for a change is a site that can not be reached', async () => {
  const vmId = await createMachine()
  const store = await openMachineStore(cloud.stateDirectory, async () => {})
  const change = store.lock(vmId, undefined, async () => {
    await rename(cloud.stateDirectory, away)
    await readFile(join(store.directoryOf(vmId), 'vm.json'))
  })
  await expect(change).rejects.toMatchObject({ code: 'UNREACHABLE', retryable: true })
})

test('a cloud whose state directory is hidden by a file can not be connected, and nothing is made', async () => {
  await rename(cloud.stateDirectory, away)
  await writeFile(cloud.stateDirectory, '')
  await expect(connect(cloud.stateDirectory)).rejects.toMatchObject({ code: 'UNREACHABLE' })
})

test('a VM that runs is seen and fenced by way of a link to the state directory', async () => {
  const vmId = await createMachine()
  await cloud.connection.virtualMachines.start({ operationId: randomUUID(), vmId })
  const link = `${cloud.stateDirectory}-link`
  await symlink(cloud.stateDirectory, link)
  try {
    await expectSeenAndFenced(vmId, link)
  } finally {
    await unlink(link)
  }
})

test('a VM whose state directory is renamed while it runs is seen and fenced where that is now', async () => {
  const vmId = await createMachine()
  await cloud.connection.virtualMachines.start({ operationId: randomUUID(), vmId })
  await rename(cloud.stateDirectory, away)
  await expectSeenAndFenced(vmId, away)
})

async function expectSeenAndFenced(vmId: string, stateDirectory: string) {
  const pid = Number(await readFile(join(stateDirectory, 'machines', vmId, 'qemu.pid'), 'utf8'))
  try {
    const { discoverTopology, virtualMachines, fencing } = await connect(stateDirectory, {}, true)
    expect(await virtualMachines.describe({ vmId })).toMatchObject({ power: 'RUNNING' })
    expect((await discoverTopology({})).virtualMachines).toMatchObject([{ id: vmId, power: 'RUNNING' }])
    await fencing!.fence({ operationId: randomUUID(), vmId, fenceId: 'f' })
    expect(await fencing!.confirm({ vmId })).toMatchObject({ fenced: true, power: 'STOPPED' })
    expect(existsSync(`/proc/${pid}`)).toBe(false)
  } finally {
    if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL')
    await until(async () => !existsSync(`/proc/${pid}`))
  }
}
