/** What runs inside a parent VM, in a VM: each of the two shipped images boots, is warmed, takes an identity in its kernel, and runs tasks. */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { artifacts, guestMemoryBytes } from '../../setup/artifacts.ts'
import { shippedParents } from '../../setup/parent-images.ts'
import { parentImage } from '../../src/workflows/parent-image.ts'
import { childChannel, type ChildChannel } from '../support/child-runtime.ts'

let directory: string
let machine: ChildProcess | undefined
let socket: Socket | undefined
beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), 'portolan-child-guest-'))))
afterEach(async () => {
  socket?.destroy()
  if (machine && machine.exitCode === null) {
    const ended = new Promise((done) => machine!.once('exit', done))
    machine.kill('SIGKILL')
    await ended
  }
  rmSync(directory, { recursive: true, force: true })
})

async function boot(name: 'node' | 'python'): Promise<ChildChannel> {
  const { cacheDirectory, parentBase } = artifacts()
  const image = await parentImage({ ...shippedParents[name], base: parentBase, cacheDirectory })
  const channel = join(directory, 'channel')
  const devices = ['virtio-blk-pci,drive=disk', 'virtio-serial-pci', 'virtserialport,chardev=channel,name=org.portolan.child']
  const net = 'hubport,id=net,hubid=0'
  const disk = `if=none,id=disk,format=raw,snapshot=on,file=${image.diskPath}`
  const port = `socket,id=channel,path=${channel},server=on,wait=off`
  const machineOptions = `-machine q35,accel=tcg -cpu max -m ${guestMemoryBytes >> 10}K -nodefaults -display none -no-reboot -netdev ${net}`
  const files = [
    '-kernel',
    image.kernelPath,
    '-initrd',
    image.initrdPath,
    '-append',
    image.commandLine,
    '-serial',
    `file:${join(directory, 'console')}`,
  ]
  const all = [...devices, 'virtio-net-pci,netdev=net'].flatMap((device) => ['-device', device])
  const args = [...machineOptions.split(' '), ...files, '-drive', disk, '-chardev', port, ...all]
  machine = spawn('qemu-system-x86_64', args, { stdio: 'ignore', env: { ...process.env, TMPDIR: directory } })
  while (!existsSync(channel)) await sleep(20)
  socket = connect(channel)
  return childChannel(socket, 120_000)
}

const identity = {
  id: '01234567-89ab-4cde-8f01-23456789abcd',
  name: 'child-7',
  mac: '52:54:00:12:34:56',
  unixMs: Date.UTC(2040, 0, 2),
  entropy: Buffer.alloc(64, 7).toString('base64'),
}
const files = {
  machineId: '/etc/machine-id',
  name: '/etc/hostname',
  bootId: '/proc/sys/kernel/random/boot_id',
  mac: '/sys/class/net/eth0/address',
}
const guests = {
  node: {
    warmUp: `globalThis.lodash = require('lodash')`,
    libraries: { lodash: expect.stringMatching(/^4\./) as string },
    program: `
      const { readFileSync } = require('node:fs')
      module.exports = async (input, context) => {
        if (input.files) return { now: Date.now(), ...lodash.mapValues(input.files, (path) => readFileSync(path, 'utf8').trim()) }
        if (input.print) return void process.stdout.write(input.print)
        await context.barrier('both', 2)
        await context.send(input.to, lodash.range(3))
        return (await context.receive()).body
      }`,
  },
  python: {
    warmUp: 'import numpy',
    libraries: { numpy: expect.stringMatching(/^1\./) as string },
    program: `
import sys, time, numpy
def run(input, context):
    if 'files' in input:
        return {'now': time.time() * 1000, **{name: open(path).read().strip() for name, path in input['files'].items()}}
    if 'print' in input:
        sys.stdout.write(input['print'])
        return None
    context.barrier('both', 2)
    context.send(input['to'], numpy.arange(3))
    return context.receive()['body']`,
  },
}

test.for(['node', 'python'] as const)('%s: from a cold boot to the end of its tasks', async (name) => {
  const { warmUp, libraries, program } = guests[name]
  const child = await boot(name).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${readFileSync(join(directory, 'console'), 'utf8')}`)
  })
  expect(await child.next('HELLO')).toMatchObject({ runtime: name, protocol: 1, libraries })
  child.say({ type: 'WARM_UP', program: warmUp })
  expect((await child.next('READY')).libraries).toMatchObject(libraries)

  child.say({ type: 'IDENTITY', ...identity })
  await child.next('IDENTIFIED')
  child.say({ type: 'PROGRAM', source: program, shared: {}, taskTimeoutMs: 30_000 })
  await child.next('PROGRAM_READY')
  child.run(0, { files })
  const { output } = (await child.end(0)) as { output: Record<keyof typeof files, string> & { now: number } }
  expect(output).toMatchObject({ machineId: identity.id.replaceAll('-', ''), bootId: identity.id, name: identity.name, mac: identity.mac })
  expect(output.now).toBeGreaterThanOrEqual(identity.unixMs)
  expect(output.now).toBeLessThan(identity.unixMs + 60_000)

  child.run(1, { print: 'a line\n' })
  await child.end(1)
  expect(child.all('LOG')).toEqual([{ type: 'LOG', index: 1, text: 'a line\n' }])

  child.run(2, { to: 3 }, { to: 2 })
  await child.next('BARRIER')
  expect((await child.next('BARRIER')).size).toBe(2)
  child.say({ type: 'BARRIER_OPEN', name: 'both', tasks: [2, 3] })
  for (const { from, to, body } of [await child.next('SEND'), await child.next('SEND')]) child.say({ type: 'MESSAGE', from, to, body })
  expect(await child.end(2)).toMatchObject({ output: [0, 1, 2] })
  expect(await child.end(3)).toMatchObject({ output: [0, 1, 2] })
  expect(child.all('STARTED').flatMap(({ indices }) => indices)).toEqual([0, 1, 2, 3])
})
