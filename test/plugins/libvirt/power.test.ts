/** With a fake virsh that keeps what domains there are and how they stand, and notes what changes them. */
import { randomUUID } from 'node:crypto'
import { expect, test, vi } from 'vitest'
import { setMetadata } from '../../../plugins/libvirt/domain-xml.ts'
import type { MachineMetadata } from '../../../plugins/libvirt/machine-metadata.ts'
import { openSite, type Site } from '../../../plugins/libvirt/site.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'
import { virshFailure } from '../../../plugins/libvirt/virsh-failure.ts'
import { virtualMachines } from '../../../plugins/libvirt/virtual-machines.ts'
import { readXml } from '../../../plugins/libvirt/xml.ts'
import { testIdentity } from '../../../src/plugin-sdk/index.ts'

vi.mock('node:timers/promises', () => ({ setTimeout: async () => undefined }))

interface Domain {
  state: 'running' | 'paused' | 'shut off' | 'in shutdown'
  /** So many looks until it is off. */
  offAfter?: number
  metadata?: Partial<MachineMetadata>
  /** How it stood when libvirt saved its memory. */
  managedSave?: 'running' | 'paused' | undefined
  /** What `virsh start` fails with; `starts`: whether the domain is up afterwards. */
  startFails?: string
  starts?: boolean
}
const vmId = randomUUID()
const operation = () => ({ operationId: randomUUID(), vmId })

function fakeSite(domains: Record<string, Domain>) {
  const changes: string[][] = []
  const find = (id: string) => {
    if (domains[id]) return domains[id]
    throw virshFailure('look', 'error: Domain not found')
  }
  const start = (domain: Domain) => {
    if (domain.starts !== false) Object.assign(domain, { state: domain.managedSave ?? 'running', managedSave: undefined })
    if (domain.startFails !== undefined) throw virshFailure('start', domain.startFails)
  }
  const call = async ([command = '', , id = '']: readonly string[]) => {
    changes.push([command, id])
    if (command === 'net-destroy') throw virshFailure('look', 'error: Network not found')
    if (command === 'destroy') find(id).state = 'shut off'
    if (command === 'undefine') delete domains[id]
    if (command === 'start') start(find(id))
    if (command === 'resume') find(id).state = 'running'
    return ''
  }
  const look = async ([command = '', , id = '']: readonly string[]) => {
    const domain = find(id)
    if (command === 'dominfo') return `Managed save:   ${domain.managedSave ? 'yes' : 'no'}`
    if (domain.offAfter !== undefined && domain.offAfter-- === 0) domain.state = 'shut off'
    return domain.state
  }
  const site: Site = {
    ...openSite(libvirtOptions.parse({ uri: 'qemu:///session' }), () => undefined),
    client: { call, look } as unknown as Site['client'],
    pool: () => ({ ofMachine: async () => [] }) as unknown as ReturnType<Site['pool']>,
    async domain(id) {
      const tree = readXml('<domain/>')
      setMetadata(tree, { stage: 'landing', createdBy: 'us', ownNics: [], operations: [], ...find(id).metadata })
      return tree
    },
    once: async (_operation, work) => work(),
  }
  return { changes, machines: virtualMachines(site) }
}

test('stopping a copy with force removes the test that runs on it before the copy is off', async () => {
  const testVmId = testIdentity(vmId, 't').uniqueId
  const domains: Record<string, Domain> = { [vmId]: { state: 'running', metadata: { test: 't' } }, [testVmId]: { state: 'running' } }
  const { changes, machines } = fakeSite(domains)
  await machines.stop({ ...operation(), force: true })
  expect(domains).toMatchObject({ [vmId]: { state: 'shut off' } })
  expect(domains).not.toHaveProperty(testVmId)
  expect(changes.at(-1)).toEqual(['destroy', vmId])
})

test.each(['running', 'paused'] as const)(
  'resuming a domain whose memory libvirt saved while it was %s starts it from there',
  async (managedSave) => {
    const domains: Record<string, Domain> = { [vmId]: { state: 'shut off', managedSave } }
    const { machines } = fakeSite(domains)
    await machines.resume(operation())
    expect(domains[vmId]).toMatchObject({ state: 'running', managedSave: undefined })
  },
)

test.each([
  ['is armed', { managedSave: 'paused', metadata: { fence: { fenceId: 'f', fenced: false, autostart: false, disks: [] } } }],
  ['is not complete', { managedSave: 'paused', metadata: { stage: 'creating' } }],
  ['is off, with no saved memory,', {}],
] as [string, Partial<Domain>][])('a domain that %s is not started by being resumed', async (_, domain) => {
  const { changes, machines } = fakeSite({ [vmId]: { state: 'shut off', ...domain } })
  await expect(machines.resume(operation())).rejects.toMatchObject({ code: 'CONFLICT', retryable: false })
  expect(changes).toEqual([])
})

test('a start that fails is a failure, whatever the name of the domain', async () => {
  const startFails = "error: Failed to start domain 'already active'\nerror: internal error: process exited while connecting to monitor"
  const { machines } = fakeSite({ [vmId]: { state: 'shut off', startFails, starts: false } })
  await expect(machines.start(operation())).rejects.toMatchObject({ code: 'INTERNAL' })
})

test('a start that finds the domain started by a call before it is done', async () => {
  const startFails = 'error: Requested operation is not valid: domain is already running'
  const { machines } = fakeSite({ [vmId]: { state: 'shut off', startFails } })
  await machines.start(operation())
})

test('a domain that is just going down is started once it is off', async () => {
  const domains: Record<string, Domain> = { [vmId]: { state: 'in shutdown', offAfter: 2 } }
  const { changes, machines } = fakeSite(domains)
  await machines.start(operation())
  expect(changes).toEqual([['start', vmId]])
  expect(domains).toMatchObject({ [vmId]: { state: 'running' } })
})

test('a domain that does not go down is not started, and not said to be', async () => {
  const { changes, machines } = fakeSite({ [vmId]: { state: 'in shutdown' } })
  await expect(machines.start(operation())).rejects.toMatchObject({ code: 'CONFLICT', retryable: true })
  expect(changes).toEqual([])
})
