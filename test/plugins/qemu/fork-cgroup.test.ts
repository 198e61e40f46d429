import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openCgroups } from '../../../plugins/qemu/fork/child-cgroup.ts'

const limits = { memoryBytes: 100_000_000, cpuShare: 0.5 }
let mount: string
beforeEach(async () => {
  mount = await mkdtemp(join(tmpdir(), 'portolan-cgroup-'))
})
afterEach(() => rm(mount, { recursive: true, force: true }))

/** The kernel's control files are plain ones here, so a group is removed with them. */
const open = async (own: string) => {
  await writeFile(join(mount, 'self'), own)
  return openCgroups('site', {
    mount,
    self: join(mount, 'self'),
    removeDirectory: async (path) => {
      // As the kernel: what isn't there is an error.
      await readdir(path)
      await rm(path, { recursive: true })
    },
  })
}
const put = async (path: string, text: string) => {
  await mkdir(join(mount, path, '..'), { recursive: true })
  await writeFile(join(mount, path), text)
}
const text = (path: string) => readFile(join(mount, path), 'utf8')

const versionOne = async () => {
  await put('memory/memory.limit_in_bytes', '9223372036854771712')
  await put('memory/service/memory.limit_in_bytes', '5000000')
  await put('memory/service/memory.usage_in_bytes', '2000000')
  await put('memory/service/memory.stat', 'cache 9\ntotal_inactive_file 500000\n')
  await put('cpu/cpu.cfs_quota_us', '-1')
  await mkdir(join(mount, 'cpu/service'))
}

test('version 1: a group in each tree, below the own one', async () => {
  await versionOne()
  const groups = await open('4:memory:/service\n1:cpu,cpuacct:/service\n0::/\n')
  expect(groups?.version).toBe('V1')
  expect(await groups?.make('child', limits)).toEqual([
    join(mount, 'memory/service/portolan-site/child/cgroup.procs'),
    join(mount, 'cpu/service/portolan-site/child/cgroup.procs'),
  ])
  expect(await text('memory/service/portolan-site/child/memory.limit_in_bytes')).toBe('100000000')
  expect(await text('cpu/service/portolan-site/child/cpu.cfs_period_us')).toBe('100000')
  expect(await text('cpu/service/portolan-site/child/cpu.cfs_quota_us')).toBe('50000')
  await groups?.remove('child')
  await groups?.remove('child')
  expect(await readdir(join(mount, 'cpu/service'))).toEqual([])
})

test('version 1: in a container, whose tree does not show the own group, at the top', async () => {
  await versionOne()
  const groups = await open('4:memory:/elsewhere\n1:cpu:/elsewhere\n')
  expect((await groups?.make('child', limits))?.[0]).toBe(join(mount, 'memory/portolan-site/child/cgroup.procs'))
})

test('version 2: one group, beside the own one, with its controllers enabled above it', async () => {
  await put('cgroup.controllers', 'cpu memory')
  await put('services/own/memory.max', 'max')
  const groups = await open('0::/services/own\n')
  expect(groups?.version).toBe('V2')
  expect(await groups?.make('child', limits)).toEqual([join(mount, 'services/portolan-site/child/cgroup.procs')])
  for (const path of ['services', 'services/portolan-site']) expect(await text(`${path}/cgroup.subtree_control`)).toBe('+memory +cpu')
  expect(await text('services/portolan-site/child/memory.max')).toBe('100000000')
  expect(await text('services/portolan-site/child/memory.swap.max')).toBe('0')
  expect(await text('services/portolan-site/child/cpu.max')).toBe('50000 100000')
  await groups?.remove('child')
  expect(await readdir(join(mount, 'services/portolan-site'))).not.toContain('child')
})

test('the least that any group around leaves is what is free, with the page cache that can be given back', async () => {
  await versionOne()
  expect(await (await open('4:memory:/service\n1:cpu:/service\n'))?.freeMemoryBytes()).toBe(3_500_000)
  await put('memory/memory.limit_in_bytes', '3000000')
  await put('memory/memory.usage_in_bytes', '2900000')
  expect(await (await open('4:memory:/service\n1:cpu:/service\n'))?.freeMemoryBytes()).toBe(100_000)
})

test('without control groups, or the right to make some, there are none', async () => {
  expect(await open('0::/\n')).toBeNull()
  await put('cgroup.controllers', 'cpu memory')
  // A file in the place of the site's group.
  await put('portolan-site', '')
  expect(await open('0::/\n')).toBeNull()
})
