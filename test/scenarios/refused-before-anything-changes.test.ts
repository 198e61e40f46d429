import { randomBytes, randomUUID } from 'node:crypto'
import { readdir, readFile, readlink, truncate, writeFile } from 'node:fs/promises'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { connectCloud as connectDocument } from '../../src/cli/demo-documents.ts'
import type { DemoCloud } from '../../src/cli/demo-site.ts'
import { newKey } from '../support/ssh-server.ts'
import { openScenario, type ScenarioSite, type StartPayload } from '../support/scenario-site.ts'

/**
 * What an operator or an enemy may ask for that can't be: each time there is a typed error with a remedy, and after each test the source VM runs and writes, the destination
 * holds nothing of it, and the source can be asked for another migration.
 */

interface Refusal {
  code?: string
  message?: string
  remedy?: string
  path?: string[]
}
interface Finding {
  code: string
  severity: string
  message: string
  remedy: string
}
interface VirtualMachine {
  id: string
  name: string
  uniqueId: string
  power: string
  present: boolean
}

const problem = '... on Error { code message remedy path }'
const cloudsDocument = `{ clouds(first: 20) { nodes { id name state problem virtualMachines(first: 30) { nodes { id name uniqueId power present } } } } }`
const validateDocument = `mutation ($input: ValidateMigrationInput!) { validateMigration(input: $input) {
  ... on ValidateMigrationSuccess { findings { code severity message remedy } } ${problem} } }`

let scenario: ScenarioSite
let filesBefore: string[]
beforeAll(async () => {
  scenario = await openScenario()
  filesBefore = await filesOf(scenario)
})
afterAll(() => scenario?.close())

afterEach(async () => {
  const acknowledged = scenario.records.acknowledged()
  expect((await scenario.source.connection.virtualMachines.describe({ vmId: scenario.vm.vmId })).power).toBe('RUNNING')
  await expect.poll(() => scenario.records.acknowledged(), { timeout: 30_000 }).toBeGreaterThan(acknowledged)
  expect(await filesOf(scenario)).toEqual(filesBefore)
  expect(await runningMigrations()).toEqual([])
})

/** What lies in both sites' storage. Records of migrations that began are kept on purpose, and belong to neither list. */
async function filesOf({ directory }: ScenarioSite): Promise<string[]> {
  const pool = await readdir(join(directory, 'site/libvirt/pool'))
  const machines = await readdir(join(directory, 'site/east/machines'), { recursive: true })
  return [...pool, ...machines.filter((name) => !/\.(sock|pid|log)$/.test(name))].toSorted()
}

async function mutate(name: string, input: object): Promise<Refusal & Record<string, unknown>> {
  const type = `${name[0]!.toUpperCase()}${name.slice(1)}Input`
  const document = `mutation ($input: ${type}!) { ${name}(input: $input) { __typename ${problem} } }`
  return (await scenario.api().run<Record<string, Refusal & Record<string, unknown>>>(document, { input }))[name]!
}
async function connect(name: string, pluginId: string, options: unknown): Promise<Refusal & { cloud?: { id: string } }> {
  const input = { idempotencyKey: randomUUID(), name, pluginId, options }
  const withPath = connectDocument.replace('code message remedy', 'code message remedy path')
  return (await scenario.api().run<{ connectCloud: Refusal & { cloud?: { id: string } } }>(withPath, { input })).connectCloud
}
async function clouds() {
  type Cloud = { id: string; name: string; state: string; problem: string | null; virtualMachines: { nodes: VirtualMachine[] } }
  return (await scenario.api().run<{ clouds: { nodes: Cloud[] } }>(cloudsDocument)).clouds.nodes
}
const cloud = async (name: string) => (await clouds()).find((candidate) => candidate.name === name)!
async function virtualMachine(cloudName: string, uniqueId = scenario.vm.uniqueId): Promise<VirtualMachine> {
  return (await cloud(cloudName)).virtualMachines.nodes.find((vm) => vm.uniqueId === uniqueId)!
}
async function validate(request: Record<string, unknown>): Promise<Refusal & { findings?: Finding[] }> {
  const input = {
    idempotencyKey: randomUUID(),
    sourceVirtualMachineId: (await virtualMachine('east')).id,
    destinationCloudId: (await cloud('west')).id,
    healthCheck: { http: { port: 8080 } },
    permittedDowntimeMs: 300_000,
    ...request,
  }
  return (await scenario.api().run<{ validateMigration: Refusal & { findings?: Finding[] } }>(validateDocument, { input }))
    .validateMigration
}
async function runningMigrations() {
  const document = '{ migrations(first: 100, filter: { states: [PENDING, RUNNING, PAUSED] }) { nodes { id state phase problem } } }'
  return (await scenario.api().run<{ migrations: { nodes: unknown[] } }>(document)).migrations.nodes
}
/** Cancels and waits for the end. */
async function cancel(payload: StartPayload): Promise<void> {
  const id = payload.migration!.id
  expect(await mutate('cancelMigration', { idempotencyKey: randomUUID(), migrationId: id })).toMatchObject({
    __typename: 'CancelMigrationSuccess',
  })
  expect(await scenario.until(id, ({ state }) => !['PENDING', 'RUNNING'].includes(state))).toMatchObject({ state: 'CANCELLED' })
}
/** Starts it, and gives the error that it ends with. */
async function failure(request: Record<string, unknown>) {
  const { migration, ...refused } = await scenario.start(request)
  expect(refused.code, refused.message).toBeUndefined()
  const ended = await scenario.until(migration!.id, ({ state }) => !['PENDING', 'RUNNING'].includes(state))
  expect(ended).toMatchObject({ state: 'FAILED', error: { remedy: expect.stringMatching(/.{10}/) } })
  return ended.error!
}
const sentence = expect.stringMatching(/^.{20,}[.!]$/s)

describe('one virtual machine, one migration', () => {
  test('of two starts at once one wins; the other is told which one', async () => {
    const payloads = await Promise.all([scenario.start(), scenario.start()])
    const won = payloads.find(({ migration }) => migration)
    const lost = payloads.find(({ code }) => code)
    expect(lost).toMatchObject({ code: 'ALREADY_MIGRATING', message: sentence, remedy: sentence })
    // The same place, connected under another name, makes it no other virtual machine.
    await connect('east again', 'qemu', scenario.source.options)
    const sameVm = (await virtualMachine('east again')).id
    expect(await scenario.start({ sourceVirtualMachineId: sameVm })).toMatchObject({ code: 'ALREADY_MIGRATING' })
    await cancel(won!)
  })

  test('the same key starts it once, however often it comes; with another input it is refused', async () => {
    const idempotencyKey = randomUUID()
    const payloads = await Promise.all([scenario.start({ idempotencyKey }), scenario.start({ idempotencyKey })])
    payloads.push(await scenario.start({ idempotencyKey }))
    expect(new Set(payloads.map(({ migration }) => migration?.id)).size, JSON.stringify(payloads)).toBe(1)
    expect(await scenario.start({ idempotencyKey, permittedDowntimeMs: 5_000 })).toMatchObject({
      code: 'IDEMPOTENCY_KEY_REUSED',
      message: sentence,
      remedy: sentence,
    })
    await cancel(payloads[0])
    expect((await scenario.start({ idempotencyKey })).migration?.id).toBe(payloads[0].migration!.id)
  })
})

describe('ids that lead nowhere', () => {
  const globalId = (type: string, id: string) => Buffer.from(`${type}:${id}`).toString('base64')

  test.each(['pauseMigration', 'resumeMigration', 'cutOverMigration', 'cancelMigration'])('%s', async (mutation) => {
    const asked = (migrationId: string) => mutate(mutation, { idempotencyKey: randomUUID(), migrationId })
    expect(await asked(globalId('Migration', randomUUID()))).toMatchObject({ code: 'NOT_FOUND', path: ['input', 'migrationId'] })
    for (const id of ['', '🐙', "'; DROP TABLE migrations; --", '../../etc/passwd', globalId('Cloud', randomUUID())])
      expect(await asked(id)).toMatchObject({ code: 'INVALID_INPUT', message: sentence, path: ['input', 'migrationId'] })
  })

  test.each(['disconnectCloud', 'refreshTopology'])('%s', async (mutation) => {
    expect(await mutate(mutation, { idempotencyKey: randomUUID(), cloudId: globalId('Cloud', randomUUID()) })).toMatchObject({
      code: 'NOT_FOUND',
      message: sentence,
      remedy: sentence,
    })
  })

  test('of a virtual machine, a cloud, a network; and what is no move at all', async () => {
    const west = (await cloud('west')).id
    const east = (await cloud('east')).id
    const nobody = { sourceVirtualMachineId: globalId('VirtualMachine', `${randomUUID()}/${randomUUID()}`) }
    for (const asked of [validate, scenario.start]) {
      expect(await asked(nobody)).toMatchObject({ code: 'NOT_FOUND', message: sentence })
      expect(await asked({ destinationCloudId: globalId('Cloud', randomUUID()) })).toMatchObject({ code: 'NOT_FOUND', message: sentence })
      expect(await asked({ destinationCloudId: east })).toMatchObject({ code: 'INVALID_INPUT', message: sentence })
      const networkMap = [{ sourceNetworkId: globalId('Network', `${west}/x`), destinationNetworkId: globalId('Network', `${west}/x`) }]
      expect(await asked({ networkMap })).toMatchObject({ code: 'INVALID_INPUT', message: sentence })
      expect(await asked({ healthCheck: { tcp: { port: 0 } } })).toMatchObject({ code: 'INVALID_INPUT', message: sentence })
      expect(await asked({ permittedDowntimeMs: 0 })).toMatchObject({ code: 'INVALID_INPUT', message: sentence })
    }
  })
})

describe('clouds that can not be connected', () => {
  afterEach(async () => expect((await clouds()).map(({ name }) => name)).not.toContain('nowhere'))

  test('a plugin that is not loaded, an option that it does not have, one of another type', async () => {
    expect(await connect('nowhere', 'vsphere', {})).toMatchObject({ code: 'PLUGIN_UNKNOWN', path: ['input', 'pluginId'] })
    expect(await connect('nowhere', 'qemu', { stateDirectory: scenario.directory, colour: 'red' })).toMatchObject({
      code: 'INVALID_OPTIONS',
      message: expect.stringContaining('colour'),
    })
    for (const stateDirectory of ['relative/path', 7, null, '/a\0b'])
      expect(await connect('nowhere', 'qemu', { stateDirectory })).toMatchObject({
        code: 'INVALID_OPTIONS',
        path: ['input', 'options', 'stateDirectory'],
        remedy: sentence,
      })
    for (const options of [[], 'all', 7, {}]) expect(await connect('nowhere', 'qemu', options)).toMatchObject({ code: 'INVALID_OPTIONS' })
  })

  test('a libvirt that is not there, is no libvirt, or does not let us in', async () => {
    const at = (uri: string) => connect('nowhere', 'libvirt', { uri })
    expect(await at('qemu+unix:///system?socket=/nowhere/libvirt-sock')).toMatchObject({
      code: 'CLOUD_UNREACHABLE',
      message: sentence,
      remedy: sentence,
      path: ['input', 'options', 'uri'],
    })
    expect(await at('qemu+ssh://root@127.0.0.1:1/system')).toMatchObject({ code: 'CLOUD_UNREACHABLE' })
    for (const uri of ['esx://somewhere/', 'nonsense', 'qemu+ssh://h/system?command=/bin/sh', 'qemu+ssh://h/system?no_verify=1'])
      expect(await at(uri)).toMatchObject({ code: 'INVALID_OPTIONS', path: ['input', 'options', 'uri'] })
    expect(await connect('nowhere', 'libvirt', { ...scenario.destination.options, storagePool: '--all' })).toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining('torage pool'),
    })
  })

  test('names that nobody can read, or that are taken', async () => {
    for (const name of ['', ' ', 'a\nb', ' east', 'x'.repeat(101)])
      expect(await connect(name, 'qemu', scenario.source.options)).toMatchObject({ code: 'INVALID_INPUT', path: ['input', 'name'] })
    expect(await connect('west', 'qemu', scenario.source.options)).toMatchObject({ code: 'CONFLICT', path: ['input', 'name'] })
  })
})

describe('a guest that does not let us in', () => {
  const access = () =>
    (scenario.source.options['guestAccess'] as { match: string; user: string; privateKey: string; hostKeys: string[] }[])[0]!

  test.each([
    ['whose host key is another one', 'another host', () => ({ ...access(), hostKeys: [newKey().public] }), /host key/i],
    ['that does not know the key', 'another key', () => ({ ...access(), privateKey: newKey().private }), /root/],
  ])('%s: a blocker in pre-flight, and no start', async (_what, name, guestAccess, says) => {
    await connect(name, 'qemu', { ...scenario.source.options, guestAccess: [guestAccess()] })
    const sourceVirtualMachineId = (await virtualMachine(name)).id
    const { findings } = await validate({ sourceVirtualMachineId })
    expect(findings).toContainEqual({
      code: 'GUEST_UNAUTHORIZED',
      severity: 'BLOCKER',
      message: expect.stringMatching(says),
      remedy: sentence,
    })
    expect(JSON.stringify(findings)).not.toContain('PRIVATE KEY')
    expect(await failure({ sourceVirtualMachineId })).toMatchObject({ code: 'PRE_FLIGHT_FAILED', message: expect.stringMatching(says) })
  })

  test('that nothing is known of: the entry to add is named', async () => {
    await connect('no access', 'qemu', { ...scenario.source.options, guestAccess: [] })
    const { findings } = await validate({ sourceVirtualMachineId: (await virtualMachine('no access')).id })
    expect(findings).toContainEqual(expect.objectContaining({ severity: 'BLOCKER', remedy: expect.stringContaining(scenario.vm.uniqueId) }))
  })
})

describe('a destination too small', () => {
  test.each([
    ['DESTINATION_DISK_TOO_SMALL', { maxDiskBytes: 64 * 1024 * 1024 }],
    ['DESTINATION_MEMORY_TOO_SMALL', { maxMemoryBytes: 64 * 1024 * 1024 }],
  ])('%s', async (code, limits) => {
    for (const [name, pluginId, options] of [
      [`qemu ${code}`, 'qemu', { stateDirectory: join(scenario.directory, code), ...limits }],
      [`libvirt ${code}`, 'libvirt', { ...scenario.destination.options, limits }],
    ] as const) {
      const connected = await connect(name, pluginId, options)
      const destinationCloudId = connected.cloud!.id
      const { findings } = await validate({ destinationCloudId })
      expect(findings, name).toContainEqual({ code, severity: 'BLOCKER', message: expect.stringContaining(name), remedy: sentence })
      expect(await failure({ destinationCloudId })).toMatchObject({ code: 'PRE_FLIGHT_FAILED' })
    }
  })
})

describe('virtual machines that can not be moved', () => {
  test('UEFI firmware and two disks: both said at once', async () => {
    const uniqueId = randomUUID()
    const file = join(scenario.directory, 'uefi.xml')
    const disk = (letter: string) =>
      `<disk type='file' device='disk'><source file='${scenario.directory}/${letter}.raw'/><target dev='vd${letter}' bus='virtio'/></disk>`
    for (const letter of ['a', 'b']) {
      await writeFile(join(scenario.directory, `${letter}.raw`), '')
      await truncate(join(scenario.directory, `${letter}.raw`), 1024 * 1024)
    }
    await writeFile(
      file,
      `<domain type='qemu'><name>two-disks</name><uuid>${uniqueId}</uuid><memory unit='MiB'>600</memory><vcpu>1</vcpu>
       <os><type arch='x86_64' machine='q35'>hvm</type><loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader></os>
       <features><acpi/></features><devices>${disk('a')}${disk('b')}</devices></domain>`,
    )
    await virsh('define', file)
    try {
      await mutate('refreshTopology', { idempotencyKey: randomUUID(), cloudId: (await cloud('west')).id })
      const request = {
        sourceVirtualMachineId: (await virtualMachine('west', uniqueId)).id,
        destinationCloudId: (await cloud('east')).id,
      }
      const { findings } = await validate(request)
      for (const code of ['FIRMWARE_UNSUPPORTED', 'DISK_COUNT_UNSUPPORTED', 'SOURCE_NOT_RUNNING'])
        expect(findings).toContainEqual({ code, severity: 'BLOCKER', message: sentence, remedy: sentence })
      expect(await failure(request)).toMatchObject({ code: 'PRE_FLIGHT_FAILED', message: expect.stringMatching(/UEFI.*2 disks/) })
    } finally {
      await virsh('undefine', uniqueId, '--nvram')
    }
  })
})

describe('hostile names', () => {
  const names = ['; rm -rf', '; rm -rf /', '$(reboot)', '../..', 'x'.repeat(300), '👩‍💻🔥', `<name>&"'`, '--all', '%s%n', 'a\u202eb']
  /** Only these, and with a sentence: libvirt names files after its domains. */
  const refusedByLibvirt = ['; rm -rf /', '../..', 'x'.repeat(300)]

  test.each(['east', 'west'] as const)('created, listed and pre-flighted in %s, to the letter', async (where) => {
    const site = scenario.site[where]
    const image = join(scenario.directory, 'empty.raw')
    await writeFile(image, '')
    await truncate(image, 1024 * 1024)
    const made = new Map<string, string>()
    try {
      for (const name of names) {
        const created = await create(site, name, image)
        if (where === 'west' && refusedByLibvirt.includes(name))
          expect(created).toMatchObject({ code: 'UNSUPPORTED', message: sentence, remedy: sentence })
        else made.set(name, (created as { vmId: string }).vmId)
      }
      await mutate('refreshTopology', { idempotencyKey: randomUUID(), cloudId: (await cloud(where)).id })
      for (const [name, uniqueId] of made) {
        const vm = await virtualMachine(where, uniqueId)
        expect(vm.name).toBe(name)
        const destinationCloudId = (await cloud(where === 'east' ? 'west' : 'east')).id
        const { findings } = await validate({ sourceVirtualMachineId: vm.id, destinationCloudId })
        expect(findings).toContainEqual(expect.objectContaining({ code: 'SOURCE_NOT_RUNNING', message: expect.stringContaining(name) }))
      }
    } finally {
      for (const vmId of made.values()) await site.connection.virtualMachines.delete!({ operationId: randomUUID(), vmId })
    }
  })

  async function create({ connection }: DemoCloud, name: string, imagePath: string): Promise<unknown> {
    const uniqueId = randomUUID()
    return connection.virtualMachines.create!({
      operationId: randomUUID(),
      imagePath,
      inboundPorts: [],
      virtualMachine: {
        name,
        uniqueId,
        cpuCount: 1,
        memoryBytes: 64 * 1024 * 1024,
        firmware: 'BIOS',
        disks: [{ index: 0, sizeBytes: 1024 * 1024 }],
        nics: [],
      },
    }).catch((error: unknown) => error)
  }
})

/** Last: what it ends does not come back. */
describe('a cloud that goes away', () => {
  test('missing read as stopped: it is said to be unreachable, none of its virtual machines to be stopped; what needs it waits or is refused', async () => {
    const image = join(scenario.directory, 'empty.raw')
    const uniqueId = randomUUID()
    const { virtualMachines } = scenario.destination.connection
    await virtualMachines.create!({
      operationId: randomUUID(),
      imagePath: image,
      inboundPorts: [],
      virtualMachine: {
        name: `demo-${randomBytes(3).toString('hex')}`,
        uniqueId,
        cpuCount: 1,
        memoryBytes: 64 * 1024 * 1024,
        firmware: 'BIOS',
        disks: [{ index: 0, sizeBytes: 1024 * 1024 }],
        nics: [],
      },
    })
    await virtualMachines.start({ operationId: randomUUID(), vmId: uniqueId })
    filesBefore = await filesOf(scenario)
    const west = (await cloud('west')).id
    const refresh = () => mutate('refreshTopology', { idempotencyKey: randomUUID(), cloudId: west })
    expect(await refresh()).toMatchObject({ __typename: 'RefreshTopologySuccess' })
    expect(await virtualMachine('west', uniqueId)).toMatchObject({ power: 'RUNNING', present: true })

    process.kill(await libvirtdOf(scenario), 'SIGKILL')

    expect(await refresh()).toMatchObject({ code: 'CLOUD_UNREACHABLE', message: sentence, remedy: sentence })
    expect(await cloud('west')).toMatchObject({ state: 'UNREACHABLE', problem: sentence })
    expect((await virtualMachine('west', uniqueId)).power).toBe('UNKNOWN')
    expect(await validate({})).toMatchObject({ code: 'CLOUD_UNREACHABLE', message: sentence, remedy: sentence })
    expect(await connect('west again', 'libvirt', scenario.destination.options)).toMatchObject({ code: 'CLOUD_UNREACHABLE' })

    // A migration that was started waits for it, says so, and can be called off.
    const started = await scenario.start()
    const problemOf = async () =>
      (
        await scenario.api().run<{ migration: { problem: string | null } }>(`query ($id: ID!) { migration(id: $id) { problem } }`, {
          id: started.migration!.id,
        })
      ).migration.problem
    await expect.poll(problemOf, { timeout: 30_000 }).toMatch(/libvirt.*tried again/s)
    await cancel(started)
  })
})

async function virsh(...args: string[]): Promise<void> {
  await promisify(execFile)('virsh', ['--connect', String(scenario.site.west.options['uri']), ...args])
}

/** The process id of the private libvirtd, as this machine knows it. */
async function libvirtdOf({ directory }: ScenarioSite): Promise<number> {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    const program = await readlink(`/proc/${pid}/exe`).catch(() => '')
    if (program.endsWith('/libvirtd') && command.includes(directory)) return Number(pid)
  }
  throw new Error('No libvirtd of this scenario runs.')
}
