/**
 * Files of the copied guest, below the directory where its root is mounted. Every path is the guest's own: links are followed as the guest would follow them, so that an
 * absolute link in it never leads into the landing image's own system.
 */
import { chmod, chown, lstat, mkdir, open, readdir, readFile, readlink, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

export interface GuestFiles {
  /** Where it is in the landing image. What isn't there yet is given as it would be made. */
  resolve(path: string): Promise<string>
  /** Null when it is missing, not a regular file, or larger than 1 MiB: configuration is none of these. */
  read(path: string): Promise<string | null>
  /** Any kind: a directory, a device, a file of any size. */
  exists(path: string): Promise<boolean>
  /** Sorted names; empty when there is no such directory. */
  list(path: string): Promise<string[]>
  /** True when it was another before. Mode and owner of a file that is there stay; a new one is root's, with `mode`. */
  write(path: string, content: string, mode?: number): Promise<boolean>
  remove(path: string): Promise<boolean>
  /** Paths that were not there before, or that a tool of the guest made anew. Their SELinux labels are missing. */
  readonly created: string[]
}

const largestBytes = 1024 * 1024
const mostLinks = 40

/** `inPlace` keeps the file's inode, and with it a label that can't be written here; otherwise a file is replaced as a whole. */
export function guestFiles(root: string, { inPlace }: { inPlace: boolean }): GuestFiles {
  const created: string[] = []
  const resolve = (path: string) => resolveInside(root, path)

  async function read(path: string): Promise<string | null> {
    const found = await resolve(path)
    const known = await stat(found).catch(() => null)
    return known?.isFile() && known.size <= largestBytes ? readFile(found, 'utf8') : null
  }

  return {
    created,
    resolve,
    read,
    exists: async (path) => (await lstat(await resolve(path)).catch(() => null)) !== null,
    list: async (path) => (await readdir(await resolve(path)).catch((): string[] => [])).toSorted(),
    async write(path, content, mode = 0o644) {
      if ((await read(path)) === content) return false
      const target = await resolve(path)
      const before = await stat(target).catch(() => null)
      if (before && !before.isFile()) throw new Error(`${path} is not a regular file; it was left as it is`)
      if (before && inPlace) {
        await overwrite(target, content)
        return true
      }
      await mkdir(dirname(target), { recursive: true })
      const fresh = join(dirname(target), `.portolan-${process.pid}`)
      await rm(fresh, { force: true })
      await writeFile(fresh, content, { mode: 0o600, flush: true, flag: 'wx' })
      if (before) await chown(fresh, before.uid, before.gid)
      await chmod(fresh, before ? before.mode & 0o7777 : mode)
      await rename(fresh, target)
      if (!before) created.push(path)
      return true
    },
    async remove(path) {
      const target = await resolve(path)
      if ((await lstat(target).catch(() => null)) === null) return false
      await rm(target)
      return true
    },
  }
}

/** The new content first, then the end cut off: a crash in between leaves too much, never too little. */
async function overwrite(path: string, content: string): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const bytes = Buffer.from(content)
    await file.write(bytes, 0, bytes.length, 0)
    await file.truncate(bytes.length)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Throws Error where links go round in circles. */
async function resolveInside(root: string, path: string): Promise<string> {
  let rest = path.split('/')
  let place: string[] = []
  for (let links = 0; rest.length > 0;) {
    const [name, ...others] = rest
    rest = others
    if (name === undefined || name === '' || name === '.') continue
    if (name === '..') {
      place = place.slice(0, -1)
      continue
    }
    const here = join(root, ...place, name)
    const target = await readlink(here).catch(() => null)
    if (target === null) {
      place = [...place, name]
      continue
    }
    if (++links > mostLinks) throw new Error(`the links at ${path} go round in circles`)
    if (target.startsWith('/')) place = []
    rest = [...target.split('/'), ...rest]
  }
  return join(root, ...place)
}
