import { describe, expect, test } from 'vitest'
import { commandLine, memoryKiB } from '../../../plugins/qemu/command-line.ts'
import { bootsProbeRom } from '../../../plugins/qemu/kvm-probe.ts'
import type { Machine } from '../../../plugins/qemu/machine.ts'
import { qemuOptions } from '../../../plugins/qemu/options.ts'

const machine: Machine = {
  version: 1,
  vmId: '6f1c0a34-0000-4000-8000-000000000000',
  name: 'web,id=x -drive file=/etc/passwd',
  cpuCount: 2,
  memoryBytes: 512 * 1024 * 1024,
  disks: [{ index: 0, sizeBytes: 4096, storageId: 'state', sealed: true }],
  nics: [{ index: 0, mac: '52:54:00:12:34:56' }],
  forwards: [{ guestPort: 22, hostPort: 40022 }],
  boot: 'DISK',
  isolated: true,
  landing: { commandLine: 'console=ttyS0', memoryBytes: 1024 * 1024 * 1024 },
  flattening: null,
  createdBy: 'op',
  landedBy: null,
  fence: null,
  test: null,
  adopted: null,
  testOf: null,
  operations: {},
}
const host = { accelerator: 'tcg' as const, cpuModel: 'max', directIo: true, forwardAddress: '127.0.0.1' }
const line = (changes: Partial<Machine> = {}) => commandLine('/state/machines/x', { ...machine, ...changes }, host)
const valueOf = (words: string[], option: string) => words[words.indexOf(option) + 1]

describe('memory', () => {
  test('is off the grid of 256 KiB under emulation', () => {
    expect(memoryKiB(512 * 1024 * 1024, 'tcg')).toBe(524_280)
    expect(memoryKiB(524_280 * 1024, 'tcg')).toBe(524_280)
    expect(memoryKiB(512 * 1024 * 1024, 'kvm')).toBe(524_288)
  })

  test('is what the landing image needs while that runs', () => {
    expect(valueOf(line(), '-m')).toBe('524280K')
    expect(valueOf(line({ boot: 'LANDING' }), '-m')).toBe('1048568K')
  })
})

test('one processor has room for a second one under emulation, or its memory barriers would be left out', () => {
  expect(valueOf(line({ cpuCount: 1 }), '-smp')).toBe('1,maxcpus=2')
  expect(valueOf(line(), '-smp')).toBe('2')
  expect(valueOf(commandLine('/state', { ...machine, cpuCount: 1 }, { ...host, accelerator: 'kvm' }), '-smp')).toBe('1')
})

describe("QEMU's arguments", () => {
  test('hold no name, and no kernel once the VM boots from its disk', () => {
    expect(line().join(' ')).not.toContain('passwd')
    expect(line()).not.toContain('-kernel')
    expect(valueOf(line({ boot: 'LANDING' }), '-append')).toBe('console=ttyS0')
  })

  test('put a sealed disk below its overlay', () => {
    const nodes = line().filter((word) => word.startsWith('{"driver"'))
    expect(nodes.map((node) => JSON.parse(node) as object)).toMatchObject([
      { 'node-name': 'disk0', driver: 'raw', discard: 'unmap', cache: { direct: true } },
      { 'node-name': 'overlay0', driver: 'qcow2', backing: 'disk0' },
    ])
    expect(line().join(' ')).toContain('drive=overlay0,serial=portolan-disk-0')
  })

  test('tell the landing image of a full disk, and stop any other guest', () => {
    expect(line({ boot: 'LANDING' }).join(' ')).toContain('werror=report')
    expect(line().join(' ')).not.toContain('werror')
  })

  test('restrict an isolated network, and forward ports on the first NIC only', () => {
    const nics = [...machine.nics, { index: 1, mac: '52:54:00:12:34:57' }]
    const users = line({ nics })
      .filter((word) => word.startsWith('{"type":"user"'))
      .map((word) => JSON.parse(word) as object)
    expect(users).toMatchObject([
      { restrict: true, hostfwd: [{ str: 'tcp:127.0.0.1:40022-:22' }] },
      { restrict: true, hostfwd: [] },
    ])
  })
})

test('the ROM that proves an accelerator runs', async () => {
  expect(await bootsProbeRom('qemu-system-x86_64', 'tcg', 20_000)).toBe(true)
})

test.each([
  ['an unknown option', { stateDirectory: '/s', daemon: true }],
  ['a relative directory', { stateDirectory: 's' }],
  ['a CPU model that is more than a name', { stateDirectory: '/s', cpuModel: 'max,vendor=x' }],
  ['an address that is a name', { stateDirectory: '/s', forwardAddress: 'localhost' }],
])('%s is refused', (_, options) => {
  expect(qemuOptions.safeParse(options).success).toBe(false)
})
