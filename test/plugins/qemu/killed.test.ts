/** The plugin's process is killed in every call, at points spread over its duration; then the same call is made again by another process. */
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { InstantiateRequest } from '../../../src/plugin-sdk/index.ts'
import { bareLanding, bootDisk, counterOffset } from './support/bare-metal.ts'
import { fileText, mebibyte, openCloud, smallMachine, type TestCloud, until } from './support/cloud.ts'
import { killDuring } from './support/killed-call.ts'

/** Where in a call of the usual length the kill falls. */
const points = process.env['PORTOLAN_TEST_FULL'] ? Array.from({ length: 12 }, (_, step) => step / 10) : [0.2, 0.7]
const usualMs = {
  'destination.instantiate': 300,
  'destination.bootFromCopiedDisk': 250,
  'destination.discardOverlay': 300,
  'virtualMachines.start': 200,
}
const otherwiseMs = 120

let cloud: TestCloud
beforeEach(async () => {
  cloud = await openCloud()
})
afterEach(() => cloud.close())

test.each(points)('killed at %f of each call, the repeated call completes and nothing is double', async (point) => {
  const { destination, network, virtualMachines } = cloud.connection
  const landing = await bareLanding(join(cloud.stateDirectory, 'artifacts'))
  const inject = [{ path: '/etc/portolan/bootstrap.json', content: 'secret', mode: 0o600 }]
  const virtualMachine = smallMachine()
  const vmId = virtualMachine.uniqueId
  const twice = async <Request>(method: string, call: (request: Request) => Promise<unknown>, request: Request & object) => {
    const usual = Object.entries(usualMs).find(([name]) => name === method)?.[1] ?? otherwiseMs
    await killDuring(cloud.stateDirectory, method, request, usual * point)
    await call(request)
    expect(await qemuPids(vmId)).toHaveLength(method.endsWith('delete') ? 0 : 1)
  }
  const operation = () => ({ operationId: randomUUID(), vmId })

  const request: InstantiateRequest = { operationId: randomUUID(), virtualMachine, landing, inject, inboundPorts: [80] }
  await twice('destination.instantiate', destination.instantiate, request)
  await until(async () => (await serial(vmId)).includes('L'))
  await writeFile(cloud.machineFile(vmId, 'disk-0.raw'), bootDisk(4 * mebibyte), { flag: 'r+' })
  await twice('destination.sealCopiedDisks', destination.sealCopiedDisks, operation())
  await twice('destination.discardOverlay', destination.discardOverlay, { ...operation(), inject })
  await twice('destination.sealCopiedDisks', destination.sealCopiedDisks, operation())
  await twice('destination.bootFromCopiedDisk', destination.bootFromCopiedDisk, operation())
  await until(async () => (await serial(vmId)).includes('D'))
  await twice('network.expose', network.expose, operation())
  await twice('virtualMachines.suspend', virtualMachines.suspend, operation())
  await twice('virtualMachines.resume', virtualMachines.resume, operation())
  await twice('destination.flattenOverlay', destination.flattenOverlay, operation())
  expect(await virtualMachines.describe({ vmId })).toMatchObject({ power: 'RUNNING' })
  const merged = await count(vmId)
  expect(merged).toBeGreaterThan(0)
  await until(async () => (await count(vmId)) > merged)
  expect((await readdir(cloud.machineFile(vmId, ''))).filter((name) => /overlay|landing/.test(name))).toEqual([])
  await virtualMachines.stop({ ...operation(), force: true })
  await twice('virtualMachines.start', virtualMachines.start, operation())
  await twice('destination.delete', destination.delete, operation())
  expect(await readdir(join(cloud.stateDirectory, 'machines'))).toEqual([])
})

test.each(points)('killed at %f of a merge, QEMU too, no write that the guest completed is lost', async (point) => {
  const { destination, virtualMachines } = cloud.connection
  const landing = await bareLanding(join(cloud.stateDirectory, 'artifacts'))
  const virtualMachine = smallMachine()
  const vmId = virtualMachine.uniqueId
  const operation = () => ({ operationId: randomUUID(), vmId })
  await destination.instantiate({ operationId: randomUUID(), virtualMachine, landing, inject: [], inboundPorts: [] })
  await writeFile(cloud.machineFile(vmId, 'disk-0.raw'), bootDisk(4 * mebibyte), { flag: 'r+' })
  await destination.sealCopiedDisks(operation())
  await destination.bootFromCopiedDisk(operation())
  await until(async () => (await lastCounted(vmId)) > 2)
  // Holding the guest flushes the overlay's tables once; the cluster that it writes is in them from then on.
  await virtualMachines.suspend(operation())
  await virtualMachines.resume(operation())

  const flatten = operation()
  await killDuring(cloud.stateDirectory, 'destination.flattenOverlay', flatten, otherwiseMs * point)
  const completed = await lastCounted(vmId)
  for (const pid of await qemuPids(vmId)) process.kill(pid, 'SIGKILL')
  await until(async () => (await virtualMachines.describe({ vmId })).power === 'STOPPED')
  expect(await countOnTop(vmId)).toBeGreaterThanOrEqual(completed)
  await destination.flattenOverlay(flatten)
  expect(await count(vmId)).toBeGreaterThanOrEqual(completed)
})

const serial = (vmId: string) => fileText(cloud.machineFile(vmId, 'serial.log'))
const count = async (vmId: string) => (await readFile(cloud.machineFile(vmId, 'disk-0.raw'))).readUInt16LE(counterOffset)

/** The count that the guest last said, each byte after a write that had completed. */
async function lastCounted(vmId: string): Promise<number> {
  const text = await serial(vmId)
  const said = text.slice(text.lastIndexOf('D') + 1)
  return said === '' || !text.includes('D') ? 0 : said.charCodeAt(said.length - 1)
}

/** The count on what the VM would start from now. */
async function countOnTop(vmId: string): Promise<number> {
  const { disks } = JSON.parse(await readFile(cloud.machineFile(vmId, 'vm.json'), 'utf8')) as { disks: { sealed: boolean }[] }
  if (!disks[0]?.sealed) return count(vmId)
  const target = join(cloud.stateDirectory, 'top.raw')
  execFileSync('qemu-img', ['convert', '-O', 'raw', cloud.machineFile(vmId, 'overlay-0.qcow2'), target])
  return (await readFile(target)).readUInt16LE(counterOffset)
}

async function qemuPids(vmId: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  const lines = await Promise.all(pids.map((pid) => fileText(`/proc/${pid}/cmdline`)))
  return pids.filter((_, position) => lines[position]?.includes(`-uuid\0${vmId}\0`))
}
