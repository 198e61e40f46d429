/** A libvirt on another machine, by `qemu+ssh://`: everything, disks and landing images too, goes through the one SSH connection. */
import { execFile, spawn } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { artifacts, guestMemoryBytes } from '../../../setup/artifacts.ts'
import { startPrivateLibvirt, type PrivateLibvirt } from '../../../src/cli/private-site/start-private-libvirt.ts'
import type { NewVirtualMachine, ProviderConnection } from '../../../src/plugin-sdk/index.ts'
import { openPluginRegistry, type PluginRegistry } from '../../../src/plugin-sdk/registry/plugin-registry.ts'
import { demoPlugins } from '../../../src/cli/demo-site.ts'
import { newKey, startSshServer, type SshServer } from '../../support/ssh-server.ts'

let directory: string
let site: PrivateLibvirt
let host: SshServer
let registry: PluginRegistry
let cloud: ProviderConnection
const commands: string[] = []

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-over-ssh-'))
  site = await startPrivateLibvirt({ directory: join(directory, 'site') })
  const libvirtd = await pidOfLibvirtd()
  // The other machine: its commands run where this libvirtd has the usual paths.
  host = await startSshServer((command) => {
    commands.push(command)
    return spawn('nsenter', ['--target', String(libvirtd), '--mount', 'sh', '-c', command])
  })
  await writeFile(join(directory, 'key'), host.access.privateKey, { mode: 0o600 })
  await trust(host.access.hostKeys[0]!)
  vi.stubEnv('PATH', `${await sshWithOwnKnownHosts()}:${process.env['PATH']}`)
  registry = await openPluginRegistry(demoPlugins, { log: () => {} })
  cloud = await connect()
})
afterAll(async () => {
  await cloud?.close()
  await registry?.close()
  await host?.close()
  await site?.stop()
  vi.unstubAllEnvs()
  await rm(directory, { recursive: true, force: true })
})

async function connect(): Promise<ProviderConnection> {
  const uri = `qemu+ssh://root@127.0.0.1:${host.access.endpoint.port}/system?keyfile=${encodeURIComponent(join(directory, 'key'))}`
  return (await registry.connect('libvirt', { uri })).connection
}

async function pidOfLibvirtd(): Promise<number> {
  for (const entry of await readdir('/proc')) {
    const command = /^\d+$/.test(entry) ? await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '') : ''
    if (command.startsWith('libvirtd\0') && command.includes(join(directory, 'site', 'libvirtd.conf'))) return Number(entry)
  }
  throw new Error('The private libvirtd is not among the processes.')
}

const trust = (hostKey: string) => writeFile(join(directory, 'known_hosts'), `[127.0.0.1]:${host.access.endpoint.port} ${hostKey}\n`)

/** The machine's own ssh, as if this user's known_hosts were in our directory: ssh looks in the home of the user's entry in passwd, whatever HOME says. */
async function sshWithOwnKnownHosts(): Promise<string> {
  const { stdout } = await promisify(execFile)('sh', ['-c', 'command -v ssh'])
  const script = `#!/bin/sh\nexec ${stdout.trim()} -F none -o UserKnownHostsFile=${join(directory, 'known_hosts')} -o GlobalKnownHostsFile=none "$@"\n`
  await mkdir(join(directory, 'bin'))
  await writeFile(join(directory, 'bin', 'ssh'), script, { mode: 0o755 })
  return join(directory, 'bin')
}

async function machine(name: string, uniqueId: string): Promise<NewVirtualMachine> {
  const sizeBytes = (await stat(artifacts().tinyImage)).size
  const nics = [{ index: 0, mac: '52:54:00:11:22:33', networkId: 'default' }]
  return { name, uniqueId, cpuCount: 1, memoryBytes: guestMemoryBytes, firmware: 'BIOS', disks: [{ index: 0, sizeBytes }], nics }
}

const volumes = async () => {
  const { stdout } = await promisify(execFile)('virsh', ['--quiet', '--connect', site.uri, 'vol-list', 'default'])
  return stdout
    .split('\n')
    .flatMap((line) => line.trim().split(/\s+/).slice(0, 1))
    .filter(Boolean)
}

test('the topology comes from the other machine, through its own helper', async () => {
  expect(await cloud.discoverTopology({})).toMatchObject({ networks: [{ name: 'default' }], virtualMachines: [] })
  expect(commands.join('\n')).toContain('virt-ssh-helper')
})

test('a VM is made of an image of this machine, found, described and deleted', async () => {
  const virtualMachine = await machine('from-afar', '0d1e2f30-2222-4222-8333-444455556666')
  const create = { operationId: 'create', virtualMachine, imagePath: artifacts().tinyImage, inboundPorts: [] }
  const { vmId } = await cloud.virtualMachines.create!(create)
  expect(await cloud.virtualMachines.describe({ vmId })).toMatchObject({ name: 'from-afar', power: 'STOPPED' })
  const [disk] = (await cloud.virtualMachines.describe({ vmId })).disks
  // Not one byte of the image was lost on the way.
  await promisify(execFile)('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', artifacts().tinyImage, disk!.backingPath!])
  await cloud.virtualMachines.delete!({ operationId: 'delete', vmId })
  await expect(cloud.virtualMachines.describe({ vmId })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  expect(await volumes()).toEqual([])
})

test('a destination boots the landing image, whose files went there as volumes, and goes without a trace', async () => {
  const uniqueId = '0d1e2f30-3333-4222-8333-444455556666'
  const inject = [{ path: '/etc/portolan/bootstrap.json', content: '{}', mode: 0o600 }]
  const { landing } = artifacts()
  const request = { operationId: 'instantiate', virtualMachine: await machine('landing-afar', uniqueId), landing, inject, inboundPorts: [] }
  const { vmId } = await cloud.destination.instantiate(request)
  expect(await cloud.destination.instantiate(request)).toEqual({ vmId })
  expect(await cloud.virtualMachines.describe({ vmId })).toMatchObject({ power: 'RUNNING' })
  expect(await volumes()).toEqual(
    expect.arrayContaining([expect.stringMatching(/landing-kernel$/), expect.stringMatching(/landing-initrd$/)]),
  )
  await cloud.destination.delete({ operationId: 'delete-landing', vmId })
  expect(await volumes()).toEqual([])
})

test('records are kept there', async () => {
  const record = { key: 'migration.one.1.started', writtenAt: '2026-01-02T03:04:05.000Z', content: { vm: 'é' } }
  await cloud.records.put({ operationId: 'record', record })
  expect(await cloud.records.list({ keyPrefix: 'migration.one.' })).toEqual([record])
})

test('another host key is refused, with a word about it, and nothing is sent', async () => {
  await trust(newKey().public)
  const before = commands.length
  await expect(cloud.discoverTopology({})).rejects.toMatchObject({ code: 'UNAUTHORIZED', message: expect.stringContaining('ost key') })
  await expect(connect()).rejects.toMatchObject({ code: 'UNAUTHORIZED' })
  expect(commands.length).toBe(before)
  await trust(host.access.hostKeys[0]!)
  expect((await cloud.discoverTopology({})).networks).toHaveLength(1)
})

test('a machine that went away is unreachable, and its VMs are not called stopped', async () => {
  await host.close()
  const failure: unknown = await cloud.discoverTopology({}).catch((error: unknown) => error)
  expect(failure, String(failure)).toMatchObject({ code: 'UNREACHABLE', retryable: true })
})
