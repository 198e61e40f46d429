/** With a fake virsh that keeps what domains there are and how they stand, and notes what changes them. */
import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { setMetadata } from '../../../plugins/libvirt/domain-xml.ts'
import type { MachineMetadata } from '../../../plugins/libvirt/machine-metadata.ts'
import { openSite, type Site } from '../../../plugins/libvirt/site.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'
import { virshFailure } from '../../../plugins/libvirt/virsh-failure.ts'
import { virtualMachines } from '../../../plugins/libvirt/virtual-machines.ts'
import { readXml } from '../../../plugins/libvirt/xml.ts'
import { testIdentity } from '../../../src/plugin-sdk/index.ts'

interface Domain {
  state: 'running' | 'paused' | 'shut off'
  metadata?: Partial<MachineMetadata>
}
const vmId = randomUUID()
const operation = () => ({ operationId: randomUUID(), vmId })

function fakeSite(domains: Record<string, Domain>) {
  const changes: string[][] = []
  const find = (id: string) => {
    if (domains[id]) return domains[id]
    throw virshFailure('look', 'error: Domain not found')
  }
  const call = async ([command = '', , id = '']: readonly string[]) => {
    changes.push([command, id])
    if (command === 'net-destroy') throw virshFailure('look', 'error: Network not found')
    if (command === 'destroy') find(id).state = 'shut off'
    if (command === 'undefine') delete domains[id]
    return ''
  }
  const site: Site = {
    ...openSite(libvirtOptions.parse({ uri: 'qemu:///session' }), () => undefined),
    client: { call, look: async ([, , id = '']: readonly string[]) => find(id).state } as unknown as Site['client'],
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
