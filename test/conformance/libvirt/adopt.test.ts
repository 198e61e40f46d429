/** A domain that somebody else made, with disks of two kinds in two pools and a boot order of its own, receives what was written elsewhere since. */
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
import type { AdoptRequest, ProviderConnection } from '../../../src/plugin-sdk/index.ts'

const run = promisify(execFile)
const vmId = randomUUID()
const fenceId = 'left.1.1'
const memoryBytes = 128 * 1024 * 1024
let directory: string
let site: PrivateLibvirt
let cloud: ProviderConnection
let ownDisks: string[]

const virsh = async (...args: string[]) =>
  (await run('virsh', ['--quiet', '--connect', site.uri, ...args], { timeout: 60_000, env: { ...process.env, LC_ALL: 'C' } })).stdout
const operation = () => ({ operationId: randomUUID(), vmId })
const request = (): AdoptRequest => ({
  ...operation(),
  fenceId,
  landing: {
    kernelPath: artifacts().landing.kernelPath,
    initrdPath: join(directory, 'empty-initrd'),
    commandLine: 'console=ttyS0 quiet panic=0',
    memoryBytes,
  },
  inject: [],
  inboundPorts: [],
})
const definition = async () => (await virsh('dumpxml', '--inactive', vmId)).replace(/\s*<metadata>[\s\S]*<\/metadata>/, '')
const autostart = async () => /^Autostart:\s*(\w+)$/m.exec(await virsh('dominfo', vmId))?.[1]
const volumes = async () => [...(await readdir(join(directory, 'site/pool'))), ...(await readdir(join(directory, 'fast')))].toSorted()

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-adopt-'))
  site = await startPrivateLibvirt({ directory: join(directory, 'site') })
  await mkdir(join(directory, 'fast'))
  await virsh('pool-create-as', '--name', 'fast', '--type', 'dir', '--target', join(directory, 'fast'))
  await virsh('vol-create-as', '--pool', 'fast', '--name', 'system.qcow2', '--capacity', '16M', '--format', 'qcow2')
  await virsh('vol-create-as', '--pool', 'default', '--name', 'data', '--capacity', '8M', '--format', 'raw')
  ownDisks = [join(directory, 'fast/system.qcow2'), join(directory, 'site/pool/data')]
  await writeFile(join(directory, 'empty-initrd'), Buffer.alloc(512))
  await writeFile(join(directory, 'domain.xml'), domain())
  await virsh('define', join(directory, 'domain.xml'))
  await virsh('autostart', vmId)
  const options = libvirtOptions.parse({ uri: site.uri, storagePools: ['fast'] })
  cloud = await plugin.connect(options, { signal: new AbortController().signal, log: () => undefined })
})
afterAll(async () => {
  await site?.stop()
  await rm(directory, { recursive: true, force: true })
})

const domain = () => `<domain type='qemu'>
  <name>somebody else's</name>
  <uuid>${vmId}</uuid>
  <memory unit='b'>${memoryBytes}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' error_policy='stop'/><source file='${ownDisks[0]}'/><target dev='vda' bus='virtio'/><serial>SYSTEM</serial><boot order='1'/>
    </disk>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${ownDisks[1]}'/><target dev='vdb' bus='virtio'/></disk>
    <interface type='network'><mac address='52:54:00:aa:bb:cc'/><source network='default'/><model type='virtio'/></interface>
  </devices>
</domain>`

/** Through QEMU's monitor, as the landing image's agent would: a block of 64 KiB of this byte on each disk. */
async function receive(byte: number): Promise<void> {
  const devices = JSON.parse(await virsh('qemu-monitor-command', vmId, '{"execute":"query-block"}')) as { return: { qdev?: string }[] }
  const disks = devices.return.flatMap(({ qdev }) => (qdev?.includes('virtio-disk') ? [qdev] : []))
  expect(disks).toHaveLength(2)
  for (const qdev of disks)
    expect(await virsh('qemu-monitor-command', '--hmp', vmId, `qemu-io -d ${qdev} "write -f -P ${byte} 64k 64k"`)).not.toMatch(
      /error|fail/i,
    )
}

async function ownDisksHold(byte: number): Promise<boolean> {
  for (const [path, format] of [
    [ownDisks[0]!, 'qcow2'],
    [ownDisks[1]!, 'raw'],
  ] as const)
    if ((await run('qemu-io', ['-U', '-r', '-f', format, '-c', `read -P ${byte} 64k 64k`, path])).stdout.includes('failed')) return false
  return true
}

test('it is adopted, tested, and given back with its disks, definition and fence as they were; then adopted again, and goes on with what it received', async () => {
  const { destination, fencing, network, virtualMachines } = cloud
  const before = await definition()
  const described = await virtualMachines.describe({ vmId })
  await fencing!.fence({ ...operation(), fenceId })
  const [fenced, filesBefore] = [await definition(), await volumes()]

  await destination.adopt!.start(request())
  expect((await virtualMachines.describe({ vmId })).disks).toEqual(described.disks)
  const landing = await virsh('dumpxml', vmId)
  for (const serial of ['portolan-disk-0', 'portolan-disk-1']) expect(landing).toContain(`<serial>${serial}</serial>`)
  await receive(1)
  await destination.testBoot!.start({ ...operation(), testId: 't', inboundPorts: [] })
  await receive(2)
  await destination.testBoot!.remove({ ...operation(), testId: 't' })
  expect(await ownDisksHold(0)).toBe(true)
  await destination.adopt!.giveBack(operation())
  expect(await definition()).toBe(fenced)
  expect(await fencing!.confirm({ vmId })).toEqual({ fenceId, armed: true, fenced: true, power: 'STOPPED' })
  expect(await volumes()).toEqual(filesBefore)
  expect(await ownDisksHold(0)).toBe(true)

  await destination.adopt!.start(request())
  await receive(3)
  await destination.sealCopiedDisks(operation())
  await destination.bootFromCopiedDisk(operation())
  const booted = await virsh('dumpxml', vmId)
  expect(booted).toContain('<serial>SYSTEM</serial>')
  expect(booted).not.toContain('<kernel>')
  expect(await ownDisksHold(0)).toBe(true)
  await network.expose(operation())
  await destination.flattenOverlay(operation())
  expect(await ownDisksHold(3)).toBe(true)
  expect(await definition()).toBe(before)
  expect(await autostart()).toBe('enable')
  expect(await volumes()).toEqual(filesBefore)
  await virtualMachines.stop({ ...operation(), force: true })
  await virtualMachines.start(operation())
  expect(await virtualMachines.describe({ vmId })).toMatchObject({ power: 'RUNNING' })
})

test('one whose disk is no file of a pool is refused, and left as it is', async () => {
  await cloud.virtualMachines.stop({ ...operation(), force: true })
  await writeFile(join(directory, 'elsewhere.raw'), Buffer.alloc(1024 * 1024))
  await virsh('attach-disk', vmId, join(directory, 'elsewhere.raw'), 'vdc', '--config')
  const before = await definition()
  await expect(cloud.destination.adopt!.start({ ...request(), fenceId: null })).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  expect(await definition()).toBe(before)
})
