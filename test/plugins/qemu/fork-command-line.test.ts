import { expect, test } from 'vitest'
import { confinedCommand } from '../../../plugins/qemu/fork/confined-start.ts'
import { childCommandLine, hardwareOf, parentCommandLine } from '../../../plugins/qemu/fork/fork-command-line.ts'

const mebibyte = 1024 * 1024
const hardware = hardwareOf({ accelerator: 'tcg', cpuModel: 'qemu64' }, { memoryBytes: 256 * mebibyte, cpuCount: 2 })
const mac = '52:54:00:00:00:01'
const child = { mac, network: 'NONE' as const, paused: false }

/** The values of every option of that name. */
const valuesOf = (words: string[], option: string) => words.flatMap((word, index) => (word === option ? [words[index + 1] ?? ''] : []))

test('a child has the devices and the memory that its parent was saved with, which is off the grid where pages get lost', () => {
  const parent = parentCommandLine(hardware, mac, 'quiet')
  const forked = childCommandLine(hardware, child)
  for (const option of ['-machine', '-cpu', '-smp', '-m', '-device', '-serial'])
    expect(valuesOf(forked, option)).toEqual(valuesOf(parent, option))
  expect(valuesOf(parent, '-m')).toEqual([`${256 * 1024 - 8}K`])
  expect(valuesOf(parent, '-device').every((device) => /^virtserialport|addr=0x\d/.test(device))).toBe(true)
  expect(valuesOf(parent, '-object')).toEqual([`memory-backend-file,id=ram,size=${256 * 1024 - 8}K,mem-path=ram,share=on`])
  expect(valuesOf(forked, '-object')).toEqual([`memory-backend-file,id=ram,size=${256 * 1024 - 8}K,mem-path=../../../ram,share=off`])
})

test('one processor has room for a second one under emulation, but where an earlier version saved the parent without', () => {
  const one = hardwareOf({ accelerator: 'tcg', cpuModel: 'qemu64' }, { memoryBytes: 256 * mebibyte, cpuCount: 1 })
  expect(valuesOf(childCommandLine(one, child), '-smp')).toEqual(['1,maxcpus=2'])
  const { processors: _, ...earlier } = one
  expect(valuesOf(childCommandLine(earlier, child), '-smp')).toEqual(['1'])
})

test("a child writes to its overlay only, boots nothing, and its console can't fill the host's disk", () => {
  const forked = childCommandLine(hardware, child)
  const [overlay] = valuesOf(forked, '-blockdev').map((node) => JSON.parse(node) as Record<string, unknown>)
  expect(overlay).toMatchObject({ driver: 'qcow2', file: { filename: 'overlay.qcow2' } })
  expect(overlay?.['backing']).toMatchObject({ 'read-only': true, file: { filename: '../../../disk.raw', 'read-only': true } })
  expect(valuesOf(forked, '-chardev')).toContain('null,id=console')
  expect(forked).not.toContain('-kernel')
  expect(forked.some((word) => word.startsWith('/'))).toBe(false)
})

test('every VM is in the sandbox, and ends where its guest boots again', () => {
  for (const words of [parentCommandLine(hardware, mac, 'quiet'), childCommandLine(hardware, child)]) {
    expect(valuesOf(words, '-sandbox')).toEqual(['on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'])
    expect(words).toContain('-no-reboot')
  }
})

test("a child's NIC is connected to nothing unless a network was named, and its vCPUs stand still when asked", () => {
  expect(valuesOf(childCommandLine(hardware, child), '-netdev')).toEqual(['hubport,id=nic,hubid=0'])
  expect(childCommandLine(hardware, child)).not.toContain('-S')
  const connected = childCommandLine(hardware, { mac, network: { networkId: 'user-mode' }, paused: true })
  expect(valuesOf(connected, '-netdev')).toEqual(['hubport,id=nic,hubid=0', 'user,id=user,ipv6=off', 'hubport,id=link,hubid=0,netdev=user'])
  expect(connected).toContain('-S')
})

test('a process enters its groups and gets its bounds before it becomes QEMU, and ends with its time', () => {
  const confinement = { userId: 1_900_000_000, enterFiles: ['/groups/memory/a', '/groups/cpu/a'], maxFileBytes: 1000, maxLifetimeMs: 1_500 }
  const words = confinedCommand('qemu', ['-S'], confinement)
  expect(words.slice(0, 2)).toEqual(['sh', '-c'])
  const expected = [
    ['2', '/groups/memory/a', '/groups/cpu/a', '--'],
    ['timeout', '--signal=KILL', '1.500'],
    ['setpriv', '--no-new-privs', '--reuid=1900000000', '--regid=1879048192', '--clear-groups', 'qemu', '-S'],
  ]
  expect(words.slice(4)).toEqual(expected.flat())
  expect(confinedCommand('qemu', [], { ...confinement, userId: null })).not.toContain('--clear-groups')
})
