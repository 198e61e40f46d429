/**
 * What bounds a child's memory and CPU: a control group of its own, of version 1 (a directory in each controller's tree) or 2 (one directory). The process puts
 * itself in before it becomes QEMU, so nothing of it was ever outside.
 */
import { access, mkdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ChildLimits } from '../../../src/plugin-sdk/index.ts'
import { oneAtATime } from './one-at-a-time.ts'

export interface ChildCgroups {
  version: 'V1' | 'V2'
  /** The files to which a process writes 0 to enter. Made again, with these limits, where it is there. */
  make(childId: string, limits: Pick<ChildLimits, 'memoryBytes' | 'cpuShare'>): Promise<string[]>
  /** Waits up to 5 s for what is in it to end. None: a success. The last one takes the site's group along. */
  remove(childId: string): Promise<void>
  /** Memory that the groups around this process leave it; Infinity where none has a limit. */
  freeMemoryBytes(): Promise<number>
}

const cpuPeriodUs = 100_000
const removeTimeoutMs = 5_000
const enter = 'cgroup.procs'

/** Null where this process may make none. `siteName` keeps clouds on one machine apart. */
export async function openCgroups(
  siteName: string,
  from = { mount: '/sys/fs/cgroup', self: '/proc/self/cgroup', removeDirectory: rmdir as (path: string) => Promise<void> },
): Promise<ChildCgroups | null> {
  const own = ownGroups(await readFile(from.self, 'utf8').catch(() => ''))
  const found = (await versionOne(from.mount, own)) ?? (await versionTwo(from.mount, own))
  if (!found) return null
  const { version, bases, limit, memory } = found
  const site = `portolan-${siteName}`
  const siteChanges = oneAtATime()
  const groups: ChildCgroups = {
    version,
    async make(childId, limits) {
      const directories = bases.map((base) => join(base, site, childId))
      for (const [index, directory] of directories.entries()) {
        // Were the site's group removed in between, the new one would not have its controllers.
        await siteChanges(site, async () => {
          await mkdir(dirname(directory), { recursive: true })
          await found.prepare(dirname(directory))
          await mkdir(directory, { recursive: true })
        })
        for (const [name, value] of limit(index, limits)) await writeFile(join(directory, name), value)
      }
      return directories.map((directory) => join(directory, enter))
    },
    async remove(childId) {
      for (const base of bases) {
        await removeGroup(join(base, site, childId), from.removeDirectory)
        await siteChanges(site, () => rmdir(join(base, site)).catch(() => undefined))
      }
    },
    freeMemoryBytes: () => freeIn(memory),
  }
  try {
    await groups.make('.probe', { memoryBytes: 2 ** 30, cpuShare: 1 })
    await groups.remove('.probe')
    return groups
  } catch {
    return null
  }
}

interface Found {
  version: 'V1' | 'V2'
  /** Where sites make their groups, a directory a controller. */
  bases: string[]
  prepare(siteDirectory: string): Promise<void>
  /** Files and values for the group in the base of that index. The memory's comes first. */
  limit(index: number, limits: Pick<ChildLimits, 'memoryBytes' | 'cpuShare'>): [name: string, value: string][]
  memory: { directory: string; top: string; limitFile: string; usageFile: string; inactive: string }
}

async function versionOne(mount: string, own: Map<string, string>): Promise<Found | null> {
  const trees = [join(mount, 'memory'), join(mount, 'cpu')]
  if (!(await allThere([join(mount, 'memory/memory.limit_in_bytes'), join(mount, 'cpu/cpu.cfs_quota_us')]))) return null
  // Below this process's own group, so that whatever bounds it bounds its children. Not where the tree shows another part, as in a container.
  const bases = await Promise.all(
    trees.map(async (tree, index) => {
      const inner = join(tree, own.get(index === 0 ? 'memory' : 'cpu') ?? '/')
      return (await allThere([inner])) ? inner : tree
    }),
  )
  return {
    version: 'V1',
    bases,
    prepare: async () => {},
    limit: (index, { memoryBytes, cpuShare }) =>
      index === 0
        ? [['memory.limit_in_bytes', String(memoryBytes)]]
        : [
            ['cpu.cfs_period_us', String(cpuPeriodUs)],
            ['cpu.cfs_quota_us', String(quotaUs(cpuShare))],
          ],
    memory: {
      directory: bases[0] ?? mount,
      top: join(mount, 'memory'),
      limitFile: 'memory.limit_in_bytes',
      usageFile: 'memory.usage_in_bytes',
      inactive: 'total_inactive_file',
    },
  }
}

async function versionTwo(mount: string, own: Map<string, string>): Promise<Found | null> {
  if (!(await allThere([join(mount, 'cgroup.controllers')]))) return null
  // Beside this process's own group: one that has processes can't have groups with limits below it. The topmost can.
  const path = own.get('') ?? '/'
  const base = join(mount, dirname(path))
  return {
    version: 'V2',
    bases: [base],
    // From the top: a group has only the controllers that all above it pass on, and systemd passes on no more than its units ask for.
    async prepare(siteDirectory) {
      for (const group of pathTo(siteDirectory, mount)) await passOn(group, ['memory', 'cpu'])
    },
    limit: (_index, { memoryBytes, cpuShare }) => [
      ['memory.max', String(memoryBytes)],
      ['memory.swap.max', '0'],
      ['cpu.max', `${quotaUs(cpuShare)} ${cpuPeriodUs}`],
    ],
    memory: { directory: base, top: mount, limitFile: 'memory.max', usageFile: 'memory.current', inactive: 'inactive_file' },
  }
}

/** The groups from the topmost one down to this one. */
function pathTo(group: string, top: string): string[] {
  return group === top ? [group] : [...pathTo(dirname(group), top), group]
}

/** Left alone where it is so already: a group that was delegated to this process has some above it that it may not write to. */
async function passOn(group: string, controllers: readonly string[]): Promise<void> {
  const file = join(group, 'cgroup.subtree_control')
  const passed = (await textOf(file)).split(' ')
  if (!controllers.every((name) => passed.includes(name))) await writeFile(file, controllers.map((name) => `+${name}`).join(' '))
}

/** The kernel takes no less than 1 ms of a period. */
function quotaUs(cpuShare: number): number {
  return Math.max(1_000, Math.round(cpuShare * cpuPeriodUs))
}

/** This process's group by controller; version 2's has the name ''. */
function ownGroups(text: string): Map<string, string> {
  const lines = text
    .trim()
    .split('\n')
    .map((line) => line.split(':'))
  return new Map(lines.flatMap(([, controllers = '', ...path]) => controllers.split(',').map((name) => [name, path.join(':')] as const)))
}

async function removeGroup(directory: string, removeDirectory: (path: string) => Promise<void>): Promise<void> {
  const deadline = performance.now() + removeTimeoutMs
  for (;;)
    try {
      await removeDirectory(directory)
      return
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT') return
      if (code !== 'EBUSY' || performance.now() > deadline) throw error
      await sleep(10)
    }
}

/** The tightest of the groups from this one up. Page cache that can be given back counts as free. */
async function freeIn({ directory, top, limitFile, usageFile, inactive }: Found['memory']): Promise<number> {
  let free = Infinity
  for (let group = directory; group.startsWith(top); group = dirname(group)) {
    const limit = Number(await textOf(join(group, limitFile)))
    const usage = Number(await textOf(join(group, usageFile)))
    // `max`, or version 1's largest number, is none.
    if (!Number.isFinite(limit) || limit <= 0 || limit > 2 ** 60) continue
    const cached = Number(new RegExp(`^${inactive} (\\d+)$`, 'm').exec(await textOf(join(group, 'memory.stat')))?.[1] ?? 0)
    free = Math.min(free, Math.max(0, limit - usage + cached))
  }
  return free
}

async function textOf(path: string): Promise<string> {
  return (await readFile(path, 'utf8').catch(() => '')).trim()
}

async function allThere(paths: string[]): Promise<boolean> {
  return Promise.all(paths.map((path) => access(path))).then(
    () => true,
    () => false,
  )
}
