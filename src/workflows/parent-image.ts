/**
 * The disk image of a parent VM: an ext4 file system made of Debian packages, and of the programs in guests/child that speak with the control plane. Made once a recipe, without
 * root, and kept in the cache; an image there is complete, since it gets its name last.
 */
import { createHash, randomUUID } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { checkPackageNames, fetchPackages } from './debian-packages.ts'
import { fillTree, guestFiles } from './parent-image-tree.ts'
import { runProgram } from './run-program.ts'

export interface ParentImageRequest {
  runtime: 'NODE' | 'PYTHON'
  /** Debian packages beside the runtime itself, such as `node-lodash` or `python3-numpy`. */
  packages: readonly string[]
  /** What the set-up made: `artifacts().parentBase`. */
  base: { kernelPath: string; initrdPath: string }
  /** Images and packages are kept here. */
  cacheDirectory: string
  signal?: AbortSignal
}

export interface ParentImage {
  kernelPath: string
  initrdPath: string
  commandLine: string
  /** Raw ext4, sparse, never changed. */
  diskPath: string
}

/** Node can't call the kernel as a child has to, so that Perl does it. */
const runtimes = { NODE: ['busybox-static', 'nodejs', 'perl-base'], PYTHON: ['busybox-static', 'python3'] }
/** Raised when images are made in another way than before. */
const format = 3
const mostImages = 16
/** What a child may write at most, unless it is told to have less. Every byte of it is hashed with its parent. */
const roomBytes = 384 << 20

/** No huge pages, and memory is not cleared beforehand: a child shares with its parent what it doesn't touch. */
export const commandLine = [
  'console=ttyS0',
  'quiet',
  'panic=-1',
  'mitigations=off',
  'audit=0',
  'no_timer_check',
  'net.ifnames=0',
  'random.trust_cpu=on',
  'init_on_alloc=0',
  'transparent_hugepage=never',
].join(' ')

/** Waits of one process for the same image, or for the packages' cache. */
let last: Promise<unknown> = Promise.resolve()

/**
 * Makes the image, or finds it. Throws PortolanError INVALID_INPUT for a package that isn't one, CLOUD_UNREACHABLE where Debian's servers don't answer, and the signal's reason
 * where it is aborted; nothing half made stays.
 */
export async function parentImage(request: ParentImageRequest): Promise<ParentImage> {
  checkPackageNames(request.packages)
  const directory = join(request.cacheDirectory, 'parent-images')
  const diskPath = join(directory, `${recipeDigest(request)}.raw`)
  const turn = makeAfter(last, request, directory, diskPath)
  last = turn.catch(() => undefined)
  await turn
  return { ...request.base, commandLine, diskPath }
}

async function makeAfter(earlier: Promise<unknown>, request: ParentImageRequest, directory: string, diskPath: string): Promise<void> {
  await earlier
  if (!existsSync(diskPath)) await build(request, directory, diskPath)
  const now = new Date()
  utimesSync(diskPath, now, now)
  removeOld(directory)
}

/** An image is copied when a parent VM is made of it, and can be made again: the ones that nobody asked for in the longest time go. */
function removeOld(directory: string): void {
  const images = readdirSync(directory).filter((name) => name.endsWith('.raw'))
  const byAge = images.map((name) => ({ path: join(directory, name), usedAt: statSync(join(directory, name)).mtimeMs }))
  for (const { path } of byAge.toSorted((a, b) => b.usedAt - a.usedAt).slice(mostImages)) rmSync(path, { force: true })
}

/** The same for the same runtime, packages and guest programs, whatever the order of the packages, and whether those that are there anyway are named. */
export function recipeDigest({ runtime, packages }: Pick<ParentImageRequest, 'runtime' | 'packages'>): string {
  const further = new Set(packages).difference(new Set(runtimes[runtime]))
  const hash = createHash('sha256').update(JSON.stringify([format, runtime, [...further].toSorted()]))
  const entries = readdirSync(guestFiles, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile() && !entry.parentPath.includes('__pycache__'))
  for (const path of files.map((entry) => join(entry.parentPath, entry.name)).toSorted())
    hash
      .update(path.slice(guestFiles.length))
      .update(String(statSync(path).size))
      .update(readFileSync(path))
  return hash.digest('hex').slice(0, 32)
}

async function build(
  { runtime, packages, cacheDirectory, signal }: ParentImageRequest,
  directory: string,
  diskPath: string,
): Promise<void> {
  const names = [...new Set([...runtimes[runtime], ...packages])].toSorted()
  const fetched = await fetchPackages(names, join(cacheDirectory, 'debian-packages'), signal)
  const work = join(directory, `.${randomUUID()}`)
  mkdirSync(work, { recursive: true })
  try {
    const tree = join(work, 'tree')
    const disk = join(work, 'disk')
    await fillTree(tree, fetched, runtime, signal)
    await makeFileSystem(tree, disk, signal)
    renameSync(disk, diskPath)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** Without a journal: a child is thrown away whole. All of its tables are written now, and not by each child later. */
async function makeFileSystem(tree: string, disk: string, signal: AbortSignal | undefined): Promise<void> {
  const measured = await runProgram('du', ['--summarize', '--apparent-size', '--block-size=1', tree], signal)
  const bytes = Math.ceil((Number.parseInt(measured.output, 10) * 1.2 + roomBytes) / (1 << 20)) * (1 << 20)
  writeFileSync(disk, '')
  truncateSync(disk, bytes)
  const features = ['-t', 'ext4', '-O', '^has_journal', '-m', '0', '-E', 'lazy_itable_init=0,nodiscard', '-L', 'parent']
  await must('mke2fs', ['-q', '-F', ...features, '-d', tree, disk], signal)
  if (process.getuid?.() === 0) return
  // Files belong to whoever builds. In the guest they are root's.
  const entries = readdirSync(tree, { recursive: true, withFileTypes: true })
  const paths = ['/', ...entries.map((entry) => join(entry.parentPath, entry.name).slice(tree.length))]
  const commands = `${disk}.commands`
  writeFileSync(commands, paths.flatMap((path) => [`sif "${path}" uid 0\n`, `sif "${path}" gid 0\n`]).join(''))
  await must('debugfs', ['-w', '-f', commands, disk], signal)
}

async function must(program: string, args: readonly string[], signal: AbortSignal | undefined): Promise<void> {
  const { exitCode, errors } = await runProgram(program, args, signal)
  if (exitCode !== 0) throw new Error(`${program} failed with ${exitCode}: ${errors.trim().slice(-500)}`)
}
