/** A fence against the real libvirtd: its restart, its host's power cut with autostart, and people with virsh. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import plugin from '../../../plugins/libvirt/index.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'
import type { ProviderConnection } from '../../../src/plugin-sdk/index.ts'
import { startMortalLibvirt, type MortalLibvirt } from './mortal-libvirt.ts'

const fenceId = 'migration-7.1'
let directory: string
let libvirt: MortalLibvirt
let cloud: ProviderConnection
let vmId: string

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-fence-'))
  libvirt = await startMortalLibvirt(join(directory, 'site'))
  cloud = await plugin.connect(libvirtOptions.parse({ uri: libvirt.uri }), { signal: new AbortController().signal, log: () => undefined })
  await writeFile(join(directory, 'image.raw'), '')
  await truncate(join(directory, 'image.raw'), 1024 * 1024)
})
afterAll(async () => {
  await libvirt?.stop()
  await rm(directory, { recursive: true, force: true })
})

const on = () => ({ operationId: randomUUID(), vmId, fenceId })
const confirm = () => cloud.fencing!.confirm({ vmId })
/** What libvirt says as a person would ask it. */
const state = () => libvirt.virsh('domstate', vmId)
const autostart = async () => /^Autostart:\s*(\w+)$/m.exec(await libvirt.virsh('dominfo', vmId))?.[1]

beforeEach(async () => {
  const virtualMachine = {
    name: `fenced ${randomUUID()}`,
    uniqueId: randomUUID(),
    cpuCount: 1,
    memoryBytes: 64 * 1024 * 1024,
    firmware: 'BIOS' as const,
    disks: [0, 1].map((index) => ({ index, sizeBytes: (index + 1) * 1024 * 1024 })),
    nics: [],
  }
  const image = { imagePath: join(directory, 'image.raw'), inboundPorts: [] }
  vmId = (await cloud.virtualMachines.create!({ operationId: randomUUID(), virtualMachine, ...image })).vmId
  await cloud.virtualMachines.start(on())
  return async () => cloud.virtualMachines.delete!(on())
})

test('armed, a domain with autostart runs on; after a power cut neither autostart nor virsh nor we start it; released, it is as it was', async () => {
  await libvirt.virsh('autostart', vmId)
  const definition = async () => (await libvirt.virsh('dumpxml', '--inactive', vmId)).replace(/<metadata>[\s\S]*<\/metadata>/, '')
  const before = await definition()
  const described = await cloud.virtualMachines.describe({ vmId })
  await cloud.fencing!.arm(on())
  expect(await confirm()).toEqual({ fenceId, armed: true, fenced: false, power: 'RUNNING' })
  await cloud.virtualMachines.suspend(on())
  await cloud.virtualMachines.resume(on())
  expect(await state()).toBe('running')

  await libvirt.losePower()
  expect(await confirm()).toEqual({ fenceId, armed: true, fenced: true, power: 'STOPPED' })
  await libvirt.virsh('autostart', vmId)
  await libvirt.losePower()
  expect(await state(), 'with its autostart put on again by somebody').toBe('shut off')
  await expect(libvirt.virsh('start', vmId)).rejects.toThrow(/fenced-by-portolan\/migration-7\.1/)
  await expect(cloud.virtualMachines.start(on())).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('is fenced') })
  expect(await cloud.virtualMachines.describe({ vmId })).toEqual({ ...described, power: 'STOPPED' })

  await cloud.fencing!.release({ ...on(), fenceId: 'another' })
  expect((await confirm()).armed).toBe(true)
  await cloud.fencing!.release(on())
  expect(await definition()).toBe(before)
  expect(await autostart()).toBe('enable')
  expect(await confirm()).toEqual({ fenceId: null, armed: false, fenced: false, power: 'STOPPED' })
  await libvirt.losePower()
  expect(await state(), 'autostart works again').toBe('running')
})

test('fenced, a suspended domain keeps its memory, over a restart of libvirtd too, and is not resumed; released, it goes on', async () => {
  await cloud.virtualMachines.suspend(on())
  await cloud.fencing!.fence(on())
  await libvirt.killDaemon()
  expect(await confirm()).toEqual({ fenceId, armed: true, fenced: true, power: 'SUSPENDED' })
  await expect(cloud.virtualMachines.resume(on())).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('not resumed'),
  })
  expect(await state()).toBe('paused')
  await cloud.fencing!.release(on())
  expect(await autostart()).toBe('disable')
  await cloud.virtualMachines.resume(on())
  expect(await state()).toBe('running')
})

test('fenced while it runs, a domain is powered off; memory that libvirt saved for it is dropped', async () => {
  await cloud.fencing!.arm(on())
  await expect(cloud.fencing!.fence({ ...on(), fenceId: 'migration-8.1' })).rejects.toMatchObject({ code: 'CONFLICT' })
  await libvirt.virsh('managedsave', vmId)
  expect(await confirm()).toEqual({ fenceId, armed: true, fenced: false, power: 'SUSPENDED' })
  await cloud.fencing!.fence(on())
  expect(await confirm()).toEqual({ fenceId, armed: true, fenced: true, power: 'STOPPED' })
  await expect(libvirt.virsh('start', vmId)).rejects.toThrow(/fenced-by-portolan/)
  await cloud.fencing!.release(on())
  await cloud.virtualMachines.start(on())
  await cloud.fencing!.fence(on())
  expect(await state()).toBe('shut off')
})

test('a suspended domain whose memory libvirt saved is not resumed while it is armed; released, it goes on from there', async () => {
  await cloud.virtualMachines.suspend(on())
  await cloud.fencing!.arm(on())
  await libvirt.virsh('managedsave', vmId)
  expect(await confirm()).toEqual({ fenceId, armed: true, fenced: false, power: 'SUSPENDED' })
  await expect(cloud.virtualMachines.resume(on())).rejects.toMatchObject({ code: 'CONFLICT' })
  await cloud.fencing!.release(on())
  await cloud.virtualMachines.resume(on())
  expect(await state()).toBe('running')
  expect(await confirm()).toEqual({ fenceId: null, armed: false, fenced: false, power: 'RUNNING' })
  expect(await libvirt.virsh('dominfo', vmId)).toMatch(/^Managed save:\s*no$/m)
})
