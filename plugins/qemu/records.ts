/** Records of this site: one file each, whole and durable once `put` returns. */
import { createHash } from 'node:crypto'
import { link, mkdir, open, readdir, readFile, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { parseSiteRecord, type ProviderConnection, ProviderError, type SiteRecord } from '../../src/plugin-sdk/index.ts'
import { asRoomAllows, syncPath } from './durable-file.ts'
import { atSite } from './state-directory.ts'

const longestFileName = 200

/** `directory` is made when missing. */
export async function openRecords(directory: string): Promise<ProviderConnection['records']> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const stateDirectory = join(directory, '..')
  await syncPath(stateDirectory)
  return {
    put: ({ operationId, record }) =>
      asRoomAllows(`the record ${record.key}`, async () => {
        const path = join(directory, fileName(record.key))
        // Named by the operation: a repeat of an interrupted put writes over what that left, or removes it.
        const partialPath = join(directory, `.${createHash('sha256').update(`${record.key}\0${operationId}`).digest('hex')}.partial`)
        // Before anything is written: a full disk must not keep what is there already from being said again, or refused.
        if (await atSite(stateDirectory, () => isThere(path, record))) return rm(partialPath, { force: true })
        const file = await atSite(stateDirectory, () => open(partialPath, 'w', 0o600))
        try {
          await file.writeFile(JSON.stringify(record))
          await file.sync()
        } finally {
          await file.close()
        }
        try {
          // Unlike a rename, a link never replaces a record that is there.
          await link(partialPath, path)
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || !(await isThere(path, record))) throw error
        } finally {
          await rm(partialPath, { force: true })
        }
        await syncPath(directory)
      }),

    async list({ keyPrefix }) {
      const names = (await atSite(stateDirectory, () => readdir(directory))).filter((name) => name.endsWith('.json'))
      const records = await Promise.all(names.map((name) => readRecord(join(directory, name))))
      return records.filter(({ key }) => key.startsWith(keyPrefix)).toSorted((left, right) => (left.key < right.key ? -1 : 1))
    },
  }
}

/** Escaped, so that no key is a path. The ending keeps `.` and `..` from being names. */
function fileName(key: string): string {
  const name = key.isWellFormed() ? `${encodeURIComponent(key).replace(/^\./, '%2E')}.json` : ''
  if (key !== '' && name !== '' && name.length <= longestFileName) return name
  throw new ProviderError(
    'UNSUPPORTED',
    `A record can't have the key ${JSON.stringify(key.slice(0, 80))}: it is empty, too long, or not text.`,
    {
      retryable: false,
      remedy: 'Use a key of 1 to 60 characters. Nothing was stored.',
      path: ['record', 'key'],
    },
  )
}

/** Durably, once this says so. Throws CONFLICT where other content is. */
async function isThere(path: string, record: SiteRecord): Promise<boolean> {
  const found = await readRecord(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (!found) return false
  // Also where it is refused: whoever wrote it may have been killed before this, and what a refusal reveals is acted on. Its content was flushed before it had its name.
  await syncPath(dirname(path))
  if (!isDeepStrictEqual(found.content, record.content)) throw otherContent(record.key)
  return true
}

async function readRecord(path: string): Promise<SiteRecord> {
  return parseSiteRecord(await readFile(path, 'utf8'), path)
}

function otherContent(key: string): ProviderError {
  return new ProviderError('CONFLICT', `The record ${JSON.stringify(key)} is there already, with other content. It is as it was.`, {
    retryable: false,
    remedy: 'List the records, and decide from what is there.',
    path: ['record', 'key'],
  })
}
