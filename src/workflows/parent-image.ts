/**
 * What a parent VM boots: Debian packages, and the programs in guests/child that speak with the control plane, as an ext4 file system; or, where nothing forks, as an initramfs from
 * which each child boots by itself. Made once a recipe, without root, and kept in the cache; an image there is complete, since it gets its name last.
 */
import { createHash, randomUUID } from 'node:crypto'
import {
  createReadStream,
  createWriteStream,
  copyFileSync,
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
import { pipeline } from 'node:stream/promises'
import { constants, createZstdCompress } from 'node:zlib'
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

/** All in RAM. */
export interface ChildImage {
  kernelPath: string
  initrdPath: string
  commandLine: string
  /** What it takes of a VM's memory, beside what the runtime is to have. */
  ramBytes: number
}

interface Kind {
  extension: '.raw' | '.initrd'
  /** Beside the recipe's. */
  packages: string[]
  /** What it holds of the base. */
  basePath?(base: ParentImageRequest['base']): string
  make(tree: string, file: string, request: ParentImageRequest): Promise<void>
}
const asDisk: Kind = { extension: '.raw', packages: [], make: (tree, file, { signal }) => makeFileSystem(tree, file, signal) }
/** socat is the child's end of the TLS. */
const asInitrd: Kind = { extension: '.initrd', packages: ['socat'], basePath: ({ initrdPath }) => initrdPath, make: makeInitrd }
/** What is in the file takes up to four times as much once it is unpacked, and for a moment both are there. */
const unpackedToPacked = 4

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
  return { ...request.base, commandLine, diskPath: await kept(request, asDisk) }
}

/** The same for a child that boots by itself. */
export async function childImage(request: ParentImageRequest): Promise<ChildImage> {
  const initrdPath = await kept(request, asInitrd)
  return { kernelPath: request.base.kernelPath, initrdPath, commandLine, ramBytes: statSync(initrdPath).size * (1 + unpackedToPacked) }
}

async function kept(request: ParentImageRequest, kind: Kind): Promise<string> {
  checkPackageNames(request.packages)
  const directory = join(request.cacheDirectory, 'parent-images')
  const base = kind.basePath
    ? `-${createHash('sha256')
        .update(readFileSync(kind.basePath(request.base)))
        .digest('hex')
        .slice(0, 8)}`
    : ''
  const path = join(directory, `${recipeDigest(request)}${base}${kind.extension}`)
  const turn = makeAfter(last, request, kind, directory, path)
  last = turn.catch(() => undefined)
  await turn
  return path
}

async function makeAfter(
  earlier: Promise<unknown>,
  request: ParentImageRequest,
  kind: Kind,
  directory: string,
  path: string,
): Promise<void> {
  await earlier
  if (!existsSync(path)) await build(request, kind, directory, path)
  const now = new Date()
  utimesSync(path, now, now)
  removeOld(directory, kind)
}

/** An image is copied when a parent VM is made of it, and can be made again: the ones that nobody asked for in the longest time go. */
function removeOld(directory: string, { extension }: Kind): void {
  const images = readdirSync(directory).filter((name) => name.endsWith(extension))
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

async function build(request: ParentImageRequest, kind: Kind, directory: string, path: string): Promise<void> {
  const { runtime, packages, cacheDirectory, signal } = request
  const names = [...new Set([...runtimes[runtime], ...packages, ...kind.packages])].toSorted()
  const fetched = await fetchPackages(names, join(cacheDirectory, 'debian-packages'), signal)
  const work = join(directory, `.${randomUUID()}`)
  mkdirSync(work, { recursive: true })
  try {
    const tree = join(work, 'image')
    const file = join(work, 'file')
    await fillTree(tree, fetched, runtime, signal)
    await kind.make(tree, file, request)
    renameSync(file, path)
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

/** The base's initramfs, and behind it the tree below `/image`: the kernel unpacks one after the other, with zeros in between. */
async function makeInitrd(tree: string, file: string, { base, signal }: ParentImageRequest): Promise<void> {
  const archive = `${file}.cpio`
  const pack = 'cd "$1/.." && find image | image/portolan/busybox cpio -o -H newc -R 0:0 >"$2"'
  await must('sh', ['-c', pack, 'sh', tree, archive], signal)
  copyFileSync(base.initrdPath, file)
  truncateSync(file, Math.ceil(statSync(file).size / 512) * 512)
  const compress = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 9, [constants.ZSTD_c_checksumFlag]: 0 } })
  await pipeline(createReadStream(archive), compress, createWriteStream(file, { flags: 'a' }), ...(signal ? [{ signal }] : []))
}

async function must(program: string, args: readonly string[], signal: AbortSignal | undefined): Promise<void> {
  const { exitCode, errors } = await runProgram(program, args, signal)
  if (exitCode !== 0) throw new Error(`${program} failed with ${exitCode}: ${errors.trim().slice(-500)}`)
}
