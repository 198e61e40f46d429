/** The set-up may run as root for somebody, `uid:gid`, to whom everything below the cache is to belong. Without one nothing is changed. */
import { chownSync, existsSync, lstatSync, mkdirSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Gives the file, or the directory with everything in it, to the owner. What isn't there is left out. */
export function giveTo(owner: string | undefined, path: string): void {
  const [user, group] = parse(owner) ?? []
  if (user === undefined || group === undefined || !existsSync(path)) return
  chownSync(path, user, group)
  if (!lstatSync(path).isDirectory()) return
  for (const entry of readdirSync(path, { recursive: true, withFileTypes: true }))
    if (!entry.isSymbolicLink()) chownSync(join(entry.parentPath, entry.name), user, group)
}

/** Makes the directory, and the missing ones above it, all of them the owner's: `~/.cache` must not become root's. */
export function makeDirectoryFor(owner: string | undefined, path: string): void {
  const first = mkdirSync(path, { recursive: true })
  const [user, group] = parse(owner) ?? []
  if (first === undefined || user === undefined || group === undefined) return
  for (let made = path; made.length >= first.length; made = dirname(made)) chownSync(made, user, group)
}

function parse(owner: string | undefined): [number, number] | undefined {
  const match = /^(\d+):(\d+)$/.exec(owner ?? '')
  return match ? [Number(match[1]), Number(match[2])] : undefined
}
