import { randomUUID } from 'node:crypto'
import { appendFile, mkdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { bootDisk } from './support/bare-metal.ts'
import { mebibyte, openCloud, smallMachine, type TestCloud, until } from './support/cloud.ts'

let cloud: TestCloud
let vmId: string
beforeEach(async () => {
  cloud = await openCloud()
  const imagePath = join(cloud.stateDirectory, 'image.raw')
  await writeFile(imagePath, bootDisk(1 * mebibyte))
  const request = { operationId: randomUUID(), virtualMachine: smallMachine(), imagePath, inboundPorts: [] }
  vmId = (await cloud.connection.virtualMachines.create!(request)).vmId
})
afterEach(() => cloud.close())
const read = async () => (await cloud.connection.virtualMachines.console!({ vmId })).text

test('what the guest wrote to its serial console is shown, also after its end', async () => {
  expect(await read()).toBe('')
  await cloud.connection.virtualMachines.start({ operationId: randomUUID(), vmId })
  await until(async () => (await read()).startsWith('D'))
  await cloud.connection.virtualMachines.stop({ operationId: randomUUID(), vmId, force: true })
  expect(await read()).toMatch(/^D/)
  await expect(cloud.connection.virtualMachines.console!({ vmId: randomUUID() })).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('a talkative guest does not fill the disk, and its newest words are kept', async () => {
  const log = cloud.machineFile(vmId, 'serial.log')
  await appendFile(log, 'noise\n'.repeat(mebibyte))
  await appendFile(log, 'the last words\n')
  await cloud.connection.discoverTopology({})
  expect((await stat(log)).blocks * 512).toBeLessThan(128 * 1024)
  expect(await read()).toMatch(/^(noise\n)+the last words\n$/)
})

test('where the file system lets no space be freed, a VM with a long console starts and shows it all the same', async () => {
  await appendFile(cloud.machineFile(vmId, 'serial.log'), `${'noise\n'.repeat(mebibyte)}the last words\n`)
  const tools = join(cloud.stateDirectory, 'tools')
  await mkdir(tools)
  const refusal = '#!/bin/sh\necho "fallocate: fallocate failed: Operation not supported" >&2\nexit 1\n'
  await writeFile(join(tools, 'fallocate'), refusal, { mode: 0o755 })
  vi.stubEnv('PATH', `${tools}:${process.env['PATH']}`)
  try {
    expect(await read()).toMatch(/the last words\n$/)
    await cloud.connection.virtualMachines.start({ operationId: randomUUID(), vmId })
    expect(await cloud.connection.virtualMachines.describe({ vmId })).toMatchObject({ power: 'RUNNING' })
  } finally {
    vi.unstubAllEnvs()
  }
})
