import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import type { ForkCapability, ParentHashes } from '../../../src/plugin-sdk/index.ts'
import { parentFiles } from './fork-files.ts'
import { type ForkSite, parentDirectory, requireSaved } from './fork-site.ts'

export function hashParent(site: ForkSite): ForkCapability['hashParent'] {
  return async ({ parentId }) => {
    await requireSaved(site, parentId)
    return hashes(parentDirectory(site, parentId))
  }
}

/** Of the files below `directory` as they are now. */
export async function hashes(directory: string): Promise<ParentHashes> {
  return { ramSha256: await sha256(join(directory, parentFiles.ram)), diskSha256: await sha256(join(directory, parentFiles.disk)) }
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}
