import { randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { bareLanding, bootDisk, counterOffset } from './support/bare-metal.ts'
import { connect, fileText, mebibyte, openCloud, smallMachine, type TestCloud, until } from './support/cloud.ts'

let cloud: TestCloud
beforeEach(async () => {
  cloud = await openCloud()
})
afterEach(() => cloud.close())

const operation = () => ({ operationId: randomUUID() })
const inject = [{ path: '/etc/portolan/bootstrap.json', content: '{"enrolmentToken":"secret"}', mode: 0o600 }]

async function createCounting(disks = [{ index: 0, sizeBytes: 4 * mebibyte }]) {
  const imagePath = join(cloud.stateDirectory, 'image.raw')
  await writeFile(imagePath, bootDisk(1 * mebibyte))
  const virtualMachine = smallMachine({ disks })
  const { vmId } = await cloud.connection.virtualMachines.create!({ ...operation(), virtualMachine, imagePath, inboundPorts: [8080] })
  return vmId
}
async function instantiateLanding(changes: Parameters<typeof smallMachine>[0] = {}) {
  const landing = await bareLanding(join(cloud.stateDirectory, 'artifacts'))
  const request = { ...operation(), virtualMachine: smallMachine(changes), landing, inject, inboundPorts: [8080] }
  const { vmId } = await cloud.connection.destination.instantiate(request)
  await until(async () => (await fileText(cloud.machineFile(vmId, 'serial.log'))).includes('L'))
  return { vmId, request }
}
const power = async (vmId: string) => (await cloud.connection.virtualMachines.describe({ vmId })).power
const countOn = async (vmId: string, disk = 'disk-0.raw') => (await readFile(cloud.machineFile(vmId, disk))).readUInt16LE(counterOffset)
/** Copies the boot disk into the landing VM's disk, as agents would. */
async function fillDisk(vmId: string) {
  await writeFile(cloud.machineFile(vmId, 'disk-0.raw'), bootDisk(4 * mebibyte), { flag: 'r+' })
}

describe('an ordinary VM', () => {
  test('is created powered off, starts from its disk, and stops', async () => {
    const vmId = await createCounting([
      { index: 0, sizeBytes: 4 * mebibyte },
      { index: 1, sizeBytes: 2 * mebibyte },
    ])
    expect(await power(vmId)).toBe('STOPPED')
    expect((await stat(cloud.machineFile(vmId, 'disk-0.raw'))).size).toBe(4 * mebibyte)
    await cloud.connection.virtualMachines.start({ ...operation(), vmId })
    await until(async () => (await countOn(vmId)) > 2)
    expect(await power(vmId)).toBe('RUNNING')
    await cloud.connection.virtualMachines.stop({ ...operation(), vmId, force: true })
    expect(await power(vmId)).toBe('STOPPED')
  })

  test('writes nothing while it is suspended, and goes on when resumed', async () => {
    const vmId = await createCounting()
    await cloud.connection.virtualMachines.start({ ...operation(), vmId })
    await until(async () => (await countOn(vmId)) > 0)
    await cloud.connection.virtualMachines.suspend({ ...operation(), vmId })
    expect(await power(vmId)).toBe('SUSPENDED')
    const held = await countOn(vmId)
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(await countOn(vmId)).toBe(held)
    await cloud.connection.virtualMachines.resume({ ...operation(), vmId })
    await until(async () => (await countOn(vmId)) > held)
  })

  test('has an answer for a late repeat: what was done stays done once', async () => {
    const vmId = await createCounting()
    await cloud.connection.virtualMachines.start({ ...operation(), vmId })
    const suspend = { ...operation(), vmId }
    await cloud.connection.virtualMachines.suspend(suspend)
    await cloud.connection.virtualMachines.resume({ ...operation(), vmId })
    await cloud.connection.virtualMachines.suspend(suspend)
    expect(await power(vmId)).toBe('RUNNING')
    await expect(cloud.connection.virtualMachines.resume(suspend)).rejects.toMatchObject({ code: 'CONFLICT' })
  })

  test('is UNKNOWN, not stopped, while its process lives and does not answer', async () => {
    const vmId = await createCounting()
    await cloud.connection.virtualMachines.start({ ...operation(), vmId })
    const pid = Number(await readFile(cloud.machineFile(vmId, 'qemu.pid'), 'utf8'))
    process.kill(pid, 'SIGSTOP')
    try {
      expect(await power(vmId)).toBe('UNKNOWN')
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    process.kill(pid, 'SIGKILL')
    await until(async () => (await power(vmId)) === 'STOPPED')
  })

  test('is started once by two connections at the same time', async () => {
    const vmId = await createCounting()
    const other = await connect(cloud.stateDirectory)
    await Promise.all([
      cloud.connection.virtualMachines.start({ ...operation(), vmId }),
      other.virtualMachines.start({ ...operation(), vmId }),
    ])
    expect(await qemuCount(vmId)).toBe(1)
  })

  test('with a hostile name is an ordinary VM', async () => {
    const imagePath = join(cloud.stateDirectory, 'image.raw')
    await writeFile(imagePath, bootDisk(1 * mebibyte))
    for (const name of ['; rm -rf /', '../../..', 'n'.repeat(300), '🚢,id=x"', '-drive file=/etc/passwd', '\n']) {
      const virtualMachine = smallMachine({ name })
      const { vmId } = await cloud.connection.virtualMachines.create!({ ...operation(), virtualMachine, imagePath, inboundPorts: [] })
      await cloud.connection.virtualMachines.start({ ...operation(), vmId })
      expect(await cloud.connection.virtualMachines.describe({ vmId })).toMatchObject({ name, power: 'RUNNING' })
      await cloud.connection.virtualMachines.delete!({ ...operation(), vmId })
    }
    expect(await readdir(join(cloud.stateDirectory, 'machines'))).toEqual([])
  })
})

describe('a destination', () => {
  test('boots the landing image with empty disks, and a repeated call changes nothing', async () => {
    const { vmId, request } = await instantiateLanding()
    const pid = await readFile(cloud.machineFile(vmId, 'qemu.pid'), 'utf8')
    expect(await cloud.connection.destination.instantiate(request)).toEqual({ vmId })
    expect(await readFile(cloud.machineFile(vmId, 'qemu.pid'), 'utf8')).toBe(pid)
    expect((await stat(cloud.machineFile(vmId, 'landing/initrd'))).mode & 0o777).toBe(0o600)
    expect(await fileText(cloud.machineFile(vmId, 'landing/initrd'))).toContain('enrolmentToken')
  })

  test('is a conflict where another call made a VM with the same unique id', async () => {
    const { request } = await instantiateLanding()
    await expect(cloud.connection.destination.instantiate({ ...request, ...operation() })).rejects.toMatchObject({ code: 'CONFLICT' })
  })

  test('with several disks and NICs boots from its sealed disk, which stays as it was, and the merge brings the overlays into them', async () => {
    const disks = [4, 2, 1].map((size, index) => ({ index, sizeBytes: size * mebibyte }))
    const nics = ['56', '57'].map((end, index) => ({ index, mac: `52:54:00:12:34:${end}`, networkId: 'user-mode' }))
    const { vmId } = await instantiateLanding({ disks, nics })
    await fillDisk(vmId)
    await expect(cloud.connection.destination.bootFromCopiedDisk({ ...operation(), vmId })).rejects.toMatchObject({ code: 'CONFLICT' })
    await cloud.connection.destination.sealCopiedDisks({ ...operation(), vmId })
    await cloud.connection.destination.bootFromCopiedDisk({ ...operation(), vmId })
    await until(async () => (await fileText(cloud.machineFile(vmId, 'serial.log'))).includes('D'))
    expect(await fileText(cloud.machineFile(vmId, 'landing/initrd'))).toBe('')
    expect(await cloud.connection.network.reachability({ vmId, guestPort: 8080 })).toMatchObject({
      fromControlPlane: { host: '127.0.0.1' },
      controlPlaneFromGuest: null,
    })
    expect((await readFile(cloud.machineFile(vmId, 'disk-0.raw'))).equals(bootDisk(4 * mebibyte))).toBe(true)

    await cloud.connection.network.expose({ ...operation(), vmId })
    const goBack = cloud.connection.destination.discardOverlay({ ...operation(), vmId, inject: [] })
    await expect(goBack, 'it is the live copy').rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringMatching(/exposed/) })
    await cloud.connection.destination.flattenOverlay({ ...operation(), vmId })
    expect(await power(vmId)).toBe('RUNNING')
    const merged = await countOn(vmId)
    expect(merged).toBeGreaterThan(0)
    await until(async () => (await countOn(vmId)) > merged)
    expect(await readdir(cloud.machineFile(vmId, ''))).not.toContain('overlay-0.qcow2')
    expect((await cloud.connection.virtualMachines.describe({ vmId })).endpoints?.map(({ guestPort }) => guestPort)).toEqual([22, 8080])
    await cloud.connection.virtualMachines.stop({ ...operation(), vmId, force: true })
    await cloud.connection.virtualMachines.start({ ...operation(), vmId })
    const before = await countOn(vmId)
    await until(async () => (await countOn(vmId)) !== before)
  })

  test('merges a powered-off overlay too', async () => {
    const { vmId } = await instantiateLanding()
    await fillDisk(vmId)
    await cloud.connection.destination.sealCopiedDisks({ ...operation(), vmId })
    await cloud.connection.destination.bootFromCopiedDisk({ ...operation(), vmId })
    await until(async () => (await stat(cloud.machineFile(vmId, 'overlay-0.qcow2'))).size > 5 * 65536)
    await cloud.connection.virtualMachines.stop({ ...operation(), vmId, force: true })
    await cloud.connection.destination.flattenOverlay({ ...operation(), vmId })
    expect(await countOn(vmId)).toBeGreaterThan(0)
  })

  test('goes back to the landing image from a boot that was no good', async () => {
    const { vmId } = await instantiateLanding()
    await fillDisk(vmId)
    await cloud.connection.destination.sealCopiedDisks({ ...operation(), vmId })
    await cloud.connection.destination.bootFromCopiedDisk({ ...operation(), vmId })
    await until(async () => (await fileText(cloud.machineFile(vmId, 'serial.log'))).includes('D'))
    const discard = { ...operation(), vmId, inject: [{ ...inject[0]!, content: 'another secret' }] }
    await cloud.connection.destination.discardOverlay(discard)
    await until(async () => (await fileText(cloud.machineFile(vmId, 'serial.log'))).endsWith('L'))
    expect(await fileText(cloud.machineFile(vmId, 'landing/initrd'))).toContain('another secret')
    expect((await readFile(cloud.machineFile(vmId, 'disk-0.raw'))).equals(bootDisk(4 * mebibyte))).toBe(true)
    expect(await cloud.connection.network.reachability({ vmId, guestPort: 22 })).toMatchObject({ controlPlaneFromGuest: '10.0.2.2' })
    await cloud.connection.destination.sealCopiedDisks({ ...operation(), vmId })
  })

  test('is removed with everything, also twice, also when there is none', async () => {
    const { vmId } = await instantiateLanding()
    const pid = Number(await readFile(cloud.machineFile(vmId, 'qemu.pid'), 'utf8'))
    await cloud.connection.destination.delete({ ...operation(), vmId })
    await cloud.connection.destination.delete({ ...operation(), vmId })
    await cloud.connection.destination.delete({ ...operation(), vmId: '../../etc' })
    expect(() => process.kill(pid, 0)).toThrow('ESRCH')
    expect(await readdir(join(cloud.stateDirectory, 'machines'))).toEqual([])
    await expect(cloud.connection.virtualMachines.describe({ vmId })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test('that was never finished is swept away by the next connection', async () => {
    const left = ['creating', 'removing'].map((what) => join(cloud.stateDirectory, 'machines', `.${what}-${randomUUID()}`))
    for (const path of left) await mkdir(path)
    await connect(cloud.stateDirectory)
    expect(await readdir(join(cloud.stateDirectory, 'machines'))).toEqual([])
  })

  test('that is larger than the cloud may hold is refused before anything changes', async () => {
    const small = await openCloud({ maxDiskBytes: 3 * mebibyte })
    try {
      const landing = await bareLanding(join(cloud.stateDirectory, 'artifacts'))
      const request = { ...operation(), virtualMachine: smallMachine(), landing, inject, inboundPorts: [] }
      await expect(small.connection.destination.instantiate(request)).rejects.toMatchObject({ code: 'INSUFFICIENT_CAPACITY' })
      expect(await readdir(join(small.stateDirectory, 'machines'))).toEqual([])
    } finally {
      await small.close()
    }
  })
})

async function qemuCount(vmId: string): Promise<number> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lines = await Promise.all(pids.map((pid) => fileText(`/proc/${pid}/cmdline`)))
  return lines.filter((line) => line.includes(`-uuid\0${vmId}\0`)).length
}
