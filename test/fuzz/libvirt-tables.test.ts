/** What the libvirt plugin reads of libvirtd beside domains and networks themselves: its host, pools and volumes, lists, the console's place, and the records in its secrets. */
import * as fc from 'fast-check'
import { describe, expect } from 'vitest'
import { readConsole } from '../../plugins/libvirt/console.ts'
import { describeHost } from '../../plugins/libvirt/host.ts'
import { listNetworks } from '../../plugins/libvirt/networks.ts'
import { records } from '../../plugins/libvirt/records.ts'
import type { Site } from '../../plugins/libvirt/site.ts'
import { discoverTopology } from '../../plugins/libvirt/topology.ts'
import { childAt, readXml, textOf, writeXml, type XmlElement } from '../../plugins/libvirt/xml.ts'
import { parseSiteRecord, ProviderError, type SiteRecord } from '../../src/plugin-sdk/index.ts'
import { fuzz } from './support/fuzz.ts'
import { like, siteThat, treeLike } from './support/libvirt-answers.ts'

/** Undefined where it is refused in one of our errors. */
async function answerOf<Value>(asked: Promise<Value>): Promise<Value | undefined> {
  return asked.catch((error: unknown) => {
    expect(error).toBeInstanceOf(ProviderError)
    return undefined
  })
}
const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0

const pool = treeLike(readXml("<pool><available unit='bytes'>4096</available><target><path>/p</path></target></pool>"))
const volume = treeLike(readXml("<volume><capacity unit='bytes'>8192</capacity></volume>"))
const host = fc.record({
  hostname: fc.constant('h'),
  nodeinfo: like('CPU model:           x86_64\nCPU(s):              8\nMemory size:         16303276 KiB\n'),
  nodememstats: like(
    'total  :             16303276 KiB\nfree   :              9000000 KiB\nbuffers:                 1000 KiB\ncached :                 2000 KiB\n',
  ),
  capabilities: treeLike(readXml('<capabilities><host><cpu><arch>x86_64</arch></cpu></host></capabilities>')),
  'pool-dumpxml': pool,
})

describe("libvirt's host and pools", () => {
  fuzz('have counts for numbers, whatever the tables say', host, async (answers) => {
    const found = await describeHost(siteThat(answers))
    expect([found.cpuCount, found.memoryBytes, found.freeDiskBytes, found.freeMemoryBytes].filter((value) => !isCount(value))).toEqual([])
  })

  fuzz(
    'a volume has a size, and a pool a place, or an error says that it has none',
    fc.tuple(volume, pool),
    async ([volumeTree, poolTree]) => {
      const { volumes } = siteThat({ 'vol-dumpxml': volumeTree, 'pool-dumpxml': poolTree })
      const size = await answerOf(volumes.sizeBytes('v'))
      if (size !== undefined) expect(isCount(size) && textOf(childAt(volumeTree, 'capacity')).trim() === String(size)).toBe(true)
      const directory = await answerOf(volumes.directory())
      if (directory !== undefined) expect(directory).toMatch(/^\//)
    },
  )

  const vmId = '00000000-0000-4000-8000-000000000001'
  const name = fc.oneof(
    fc.stringMatching(/^[!-~]{1,20}$/),
    fc.constantFrom('disk-0.raw', '').map((end) => `vm-${vmId}-${end}`),
  )
  fuzz("a machine's volumes are those that are named after it", fc.array(name), async (names) => {
    const table = names.map((each) => ` ${each}   /p/with space/${vmId}-x`).join('\n')
    const found = await siteThat({ 'pool-refresh': '', 'vol-list': table }).volumes.ofMachine(vmId)
    expect(found).toEqual(names.filter((each) => each.includes(`-${vmId}-`)))
  })
})

describe("libvirt's lists", () => {
  const uuid = '00000000-0000-4000-8000-000000000001'
  const list = like(`${uuid}\n${uuid.replace(/1$/, '2')}\n\n`)
  const domain = readXml('<domain><name>n</name><memory>1</memory></domain>')
  fuzz('of domains and networks are read to their end', fc.tuple(list, host), async ([ids, answers]) => {
    const site = siteThat(
      { ...answers, list: ids, domstate: 'running', 'net-list': ids, 'net-dumpxml': readXml('<network><name>x</name></network>') },
      domain,
    )
    const lines = ids.split('\n').filter((line) => line.trim() !== '')
    expect(await listNetworks(site.client)).toHaveLength(lines.length)
    const found = await answerOf(discoverTopology(site)({}))
    if (found) expect(found.virtualMachines.map(({ id }) => id)).toEqual(lines.map((line) => line.trim()))
  })
})

describe('the console of a domain', () => {
  const domain = treeLike(
    readXml(
      "<domain><devices><serial type='pty'><log file='/p/c.log'/></serial><console type='file'><source path='/c'/></console></devices></domain>",
    ),
  )
  const missing = fc.constant(new ProviderError('NOT_FOUND', 'Storage volume not found', { retryable: false, remedy: 'r' }))
  fuzz('is text, or an error says why there is none', fc.tuple(domain, fc.oneof(volume, missing), pool), async ([tree, size, place]) => {
    const site = siteThat({ 'vol-dumpxml': size, 'pool-dumpxml': place, 'pool-refresh': '', 'vol-download': '' }, tree)
    const read = await answerOf(readConsole(site)({ vmId: 'v' }))
    if (read) expect(read.text).toBe('')
  })
})

describe('records in libvirt secrets', () => {
  const content = fc.dictionary(
    fc.stringMatching(/^[a-z]{1,8}$/),
    fc.oneof(fc.string(), fc.boolean(), fc.constant('</secret>\n<secret>')),
    { maxKeys: 3 },
  )
  const key = fc.oneof(fc.stringMatching(/^[a-z0-9.-]{1,30}$/), fc.constantFrom('a b', 'a/b', 'a%b', 'ü'))
  const kept = fc.uniqueArray(fc.record<SiteRecord>({ key, writtenAt: fc.constant('2026-11-22T14:00:00.000Z'), content }), {
    selector: (record) => record.key,
    maxLength: 5,
  })

  const shown = (trees: XmlElement[]) =>
    trees
      .map((tree) => `${writeXml(tree)}\n\n`)
      .join('')
      .trim()
  const listed = (secrets: Map<string, XmlElement>) =>
    [...secrets].map(([uuid, tree]) => ` ${uuid}   volume   ${textOf(childAt(tree, 'usage', 'volume'))}`).join('\n')

  /** A libvirt that keeps secrets, and shows them as virsh does. */
  function site(secrets = new Map<string, XmlElement>()): Site {
    const call = async ([command = '']: readonly string[]) =>
      command === 'secret-list'
        ? listed(secrets).trim()
        : shown([...command.matchAll(/--secret ([^\s;]+)/g)].map(([, uuid]) => secrets.get(uuid!)!))
    const define = async (_: readonly string[], tree: XmlElement) => void secrets.set(textOf(childAt(tree, 'uuid')), tree)
    return { client: { call, define } } as unknown as Site
  }

  fuzz(
    'are read as they were written, whatever is in them',
    fc.tuple(kept, fc.oneof(key, fc.constant(''))),
    async ([written, keyPrefix]) => {
      const { list, put } = records(site())
      for (const record of written) await put({ record, operationId: record.key })
      const expected = written.filter((record) => record.key.startsWith(keyPrefix)).toSorted((a, b) => a.key.localeCompare(b.key))
      expect(await list({ keyPrefix })).toEqual(expected)
    },
    150,
  )

  const secretOf = (name: string) =>
    treeLike(
      readXml(`<secret ephemeral='no' private='no'><uuid>00000000-0000-4000-8000-00000000000${name}</uuid>
<description>{"key":"${name}","writtenAt":"2026-11-22T14:00:00.000Z","content":{}}</description><usage type='volume'><volume>/portolan/record/${name}</volume></usage></secret>`),
    )
  const secrets = fc.tuple(secretOf('1'), secretOf('2'))
  const table = like(['1', '2'].map((name) => ` 00000000-0000-4000-8000-00000000000${name}   volume   /portolan/record/${name}`).join('\n'))
  fuzz(
    'that libvirt shows broken are an error, or records that were written',
    fc.tuple(
      table,
      secrets.chain((trees) => like(shown(trees))),
    ),
    async ([list, documents]) => {
      const call = async ([command]: readonly string[]) => (command === 'secret-list' ? list : documents)
      const found = await records({ client: { call } } as unknown as Site)
        .list({ keyPrefix: '' })
        .catch((error: unknown) => {
          // What is no XML is said by its reader, and becomes INTERNAL on its way out of the plugin.
          if (!(error instanceof SyntaxError)) expect(error).toBeInstanceOf(ProviderError)
          return []
        })
      for (const record of found) expect(parseSiteRecord(JSON.stringify(record), 'r')).toEqual(record)
    },
  )
})
