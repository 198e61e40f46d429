/**
 * `records`, kept as libvirt secrets (`virsh secret-list`): small documents that libvirtd stores on its host, whatever the URI. They are not secret: libvirt shows them.
 *
 * Once only: the usage id is the record's key and the UUID is a digest of key and content. libvirt refuses a second secret of the same usage with another UUID,
 * under its own lock, so of two writers with different contents one gets CONFLICT.
 * Durable: libvirtd fsyncs the new file before it renames it into place, and a second write of the same record fsyncs again: on file systems that commit
 * in order (ext4, XFS) that makes the first rename durable too.
 */
import { createHash } from 'node:crypto'
import { parseSiteRecord, ProviderError, type ProviderConnection, type SiteRecord } from '../../src/plugin-sdk/index.ts'
import type { Site } from './site.ts'
import { childAt, element, readXml, textOf } from './xml.ts'

const usagePrefix = '/portolan/record/'
const uuidPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const recordsACall = 200

export function records(site: Site): ProviderConnection['records'] {
  const { client } = site

  const list: ProviderConnection['records']['list'] = async ({ keyPrefix, signal }) => {
    const table = await client.call(['secret-list'], { what: 'list the records', signal })
    const uuids = table.split('\n').flatMap((line) => {
      const [uuid, type, usage] = line.trim().split(/\s+/)
      return uuid !== undefined &&
        uuidPattern.test(uuid) &&
        type === 'volume' &&
        usage?.startsWith(usagePrefix + encodeURIComponent(keyPrefix))
        ? [uuid]
        : []
    })
    const found: SiteRecord[] = []
    for (let first = 0; first < uuids.length; first += recordsACall)
      found.push(...(await read(uuids.slice(first, first + recordsACall), signal)))
    return found.toSorted((a, b) => a.key.localeCompare(b.key))
  }

  /** A site with years of migrations has thousands, and a process each would keep a verdict waiting. */
  const read = async (uuids: string[], signal?: AbortSignal): Promise<SiteRecord[]> => {
    const commands = uuids.map((uuid) => `secret-dumpxml --secret ${uuid}`).join('; ')
    const output = await client.call([commands], { what: 'read the records', signal })
    const documents = output.split(/(?<=<\/secret>)\s*/).filter(Boolean)
    // virsh goes on after a command that failed, and only the last one's failure is its own.
    if (documents.length !== uuids.length) throw incomplete(documents.length, uuids.length)
    return documents.map((text) => {
      const tree = readXml(text)
      return parseSiteRecord(textOf(childAt(tree, 'description')), `in the secret ${textOf(childAt(tree, 'uuid'))}`)
    })
  }

  return {
    list,

    async put({ record, signal }) {
      const existing = (await list({ keyPrefix: record.key, ...(signal ? { signal } : {}) })).find(({ key }) => key === record.key)
      if (existing && canonical(existing.content) !== canonical(record.content)) throw conflict(record.key)
      const tree = element(
        'secret',
        { ephemeral: 'no', private: 'no' },
        element('uuid', {}, recordId(record)),
        // Kept as first written: a repetition comes with a later time.
        element('description', {}, JSON.stringify(existing ?? record)),
        element('usage', { type: 'volume' }, element('volume', {}, usagePrefix + encodeURIComponent(record.key))),
      )
      const write = () =>
        client.define(['secret-define'], tree, { what: 'write a record', signal }).catch((error: unknown) => {
          if (error instanceof ProviderError && error.code === 'CONFLICT') throw conflict(record.key)
          throw error
        })
      await write()
      await write()
    },
  }
}

/** A UUID (version 8) from key and content. */
function recordId(record: SiteRecord): string {
  const digest = createHash('sha256')
    .update(JSON.stringify([record.key, canonical(record.content)]))
    .digest('hex')
  return `${digest.slice(0, 8)}-${digest.slice(8, 12)}-8${digest.slice(13, 16)}-a${digest.slice(17, 20)}-${digest.slice(20, 32)}`
}

function canonical(content: SiteRecord['content']): string {
  return JSON.stringify(Object.entries(content).toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

/** A record that was deleted in between is not in the next list; one that could not be read says something all the same. */
function incomplete(read: number, listed: number): ProviderError {
  return new ProviderError(
    'UNREACHABLE',
    `libvirt listed ${listed} records and gave only ${read} of them, so nobody knows what they say.`,
    {
      retryable: true,
      remedy: 'Check that libvirtd runs, and that nobody deletes its secrets, then try again.',
    },
  )
}

function conflict(key: string): ProviderError {
  return new ProviderError('CONFLICT', `There is another record with the key ${JSON.stringify(key)} at this site; it was left as it is.`, {
    retryable: false,
    remedy: 'Read the record: what it says has been decided.',
    path: ['record', 'key'],
  })
}
