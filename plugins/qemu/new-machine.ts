import { nameFault, type NewVirtualMachine, ProviderError } from '../../src/plugin-sdk/index.ts'
import { memoryKiB } from './command-line.ts'
import { pickForwards } from './forward-ports.ts'
import { type Machine, sshPort, userNetwork } from './machine.ts'
import { nameRule } from './name-rule.ts'
import type { Site } from './site.ts'
import { stateStorageId, storageDirectory } from './storages.ts'

const mac = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const mostDisks = 8
const mostNics = 8

/** A machine as asked for, checked, with ports picked. Everything that reaches QEMU's arguments is a number or matches a pattern here; the name stays data. */
export async function newMachine(
  site: Site,
  asked: { virtualMachine: NewVirtualMachine; inboundPorts: number[]; operationId: string },
  landing: Machine['landing'],
): Promise<Machine> {
  const wanted = asked.virtualMachine
  const vmId = wanted.uniqueId.toLowerCase()
  const guestPorts = [...new Set([sshPort, ...asked.inboundPorts])]
  demand(uuid.test(vmId), 'uniqueId', 'its unique id is not a UUID')
  demand(nameFault(nameRule, wanted.name) === null, 'name', `its name is not taken here: a name ${nameRule.says}`)
  demand(wanted.firmware === 'BIOS', 'firmware', 'only BIOS firmware can be given')
  demand(isCount(wanted.cpuCount, 256), 'cpuCount', 'the number of CPUs is not between 1 and 256')
  demand(
    isCount(wanted.memoryBytes, Number.MAX_SAFE_INTEGER) && wanted.memoryBytes >= 1024 * 1024,
    'memoryBytes',
    'it has less than 1 MiB of memory',
  )
  demand(isSequence(wanted.disks, mostDisks) && wanted.disks.length > 0, 'disks', `disks are not numbered from 0, or not 1 to ${mostDisks}`)
  demand(
    wanted.disks.every(({ sizeBytes }) => isCount(sizeBytes, 2 ** 50) && sizeBytes % 512 === 0),
    'disks',
    "a disk's size is not a multiple of 512 bytes",
  )
  demand(isSequence(wanted.nics, mostNics), 'nics', `NICs are not numbered from 0, or more than ${mostNics}`)
  demand(
    wanted.nics.every((nic) => mac.test(nic.mac)),
    'nics',
    'a MAC address is not six pairs of lower-case hex digits',
  )
  demand(
    wanted.nics.every((nic) => nic.networkId === userNetwork.id),
    'nics',
    `a NIC is on another network than ${userNetwork.id}, the only one here`,
  )
  demand(
    guestPorts.every((port) => isCount(port, 65_535)),
    'inboundPorts',
    'an inbound port is not between 1 and 65535',
  )
  for (const { storageId } of wanted.disks) if (storageId !== undefined) storageDirectory(site.options, storageId)
  return {
    version: 1,
    vmId,
    name: wanted.name,
    cpuCount: wanted.cpuCount,
    memoryBytes: memoryKiB(wanted.memoryBytes, site.host.accelerator) * 1024,
    disks: byIndex(wanted.disks).map(({ index, sizeBytes, storageId = stateStorageId }) => ({
      index,
      sizeBytes,
      storageId,
      sealed: false,
    })),
    nics: byIndex(wanted.nics).map((nic) => ({ index: nic.index, mac: nic.mac })),
    forwards: wanted.nics.length > 0 ? await pickForwards(site.host.forwardAddress, guestPorts) : [],
    boot: landing ? 'LANDING' : 'DISK',
    isolated: false,
    landing,
    flattening: null,
    createdBy: asked.operationId,
    landedBy: landing ? asked.operationId : null,
    fence: null,
    test: null,
    adopted: null,
    testOf: null,
    operations: {},
  }
}

function demand(fulfilled: boolean, member: string, why: string): void {
  if (fulfilled) return
  throw new ProviderError('UNSUPPORTED', `This cloud can't run the virtual machine: ${why}.`, {
    retryable: false,
    remedy: 'Change the virtual machine or choose another destination. Nothing was changed.',
    path: ['virtualMachine', member],
  })
}

const isCount = (value: number, most: number) => Number.isSafeInteger(value) && value >= 1 && value <= most
const byIndex = <Item extends { index: number }>(items: readonly Item[]) => items.toSorted((left, right) => left.index - right.index)
const isSequence = (items: readonly { index: number }[], most: number) =>
  items.length <= most && byIndex(items).every((item, position) => item.index === position)
