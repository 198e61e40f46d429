/** What plugins parse: libvirt's XML, QEMU's answers, a guest's facts, a site's records; and what a plugin's process says to the control plane. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { describeNetwork } from '../../plugins/libvirt/networks.ts'
import { metadataElement, readMetadata } from '../../plugins/libvirt/machine-metadata.ts'
import { element, readXml, writeXml, type XmlElement } from '../../plugins/libvirt/xml.ts'
import { hasNode, mergeJob, writesToOverlay } from '../../plugins/qemu/block-graph.ts'
import type { MachineDisk } from '../../plugins/qemu/machine.ts'
import { QmpError, queryStatus, withQmp, type QmpSession } from '../../plugins/qemu/qmp.ts'
import { parseSiteRecord, ProviderError } from '../../src/plugin-sdk/index.ts'
import { misfits, probeGuest } from '../../src/plugin-sdk/installers/guest-facts.ts'
import type { SshSession } from '../../src/plugin-sdk/installers/ssh-session.ts'
import { loadPlugin } from '../../src/plugin-sdk/registry/load-plugin.ts'
import { parseFromPlugin } from '../../src/plugin-sdk/registry/parse-from-plugin.ts'
import { errorFromRecord, errorRecord } from '../../src/plugin-sdk/registry/plugin-protocol.ts'
import { bytesLike, fuzz, jsonLike, jsonTextLike, parsed } from './support/fuzz.ts'

const isProviderError = (error: unknown) => error instanceof ProviderError

describe('XML', () => {
  const name = fc.stringMatching(/^[a-z][a-z0-9:-]{0,8}$/)
  const text = fc
    .string({ unit: 'binary', maxLength: 20 })
    // What XML 1.0 can't carry.
    // oxlint-disable-next-line no-control-regex
    .filter((characters) => characters.isWellFormed() && !/[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/.test(characters))
  const tree: fc.Arbitrary<XmlElement> = fc.letrec<{ element: XmlElement }>((tie) => ({
    element: fc
      .tuple(
        name,
        fc.dictionary(name, text, { maxKeys: 3 }),
        fc.oneof(
          { maxDepth: 4 },
          text.map((inner) => [inner]),
          fc.array(tie('element'), { maxLength: 4 }),
        ),
      )
      .map(([tag, attributes, children]) => element(tag, attributes, ...(children as XmlElement[]))),
  })).element
  const libvirt = fc.constant(
    Buffer.from(`<domain type='kvm'><!-- c --><name>a&amp;b</name><metadata><portolan:machine xmlns:portolan="x" stage="booted"><portolan:operation id="1"/></portolan:machine></metadata>
<devices><disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/></disk><![CDATA[x<y]]>&#x41;&#66;</devices></domain>`),
  )
  const isSyntaxError = (error: unknown) => error instanceof SyntaxError
  fuzz('what was written is read as it was', tree, (written) => {
    const once = readXml(writeXml(written))
    expect(readXml(writeXml(once))).toEqual(once)
    expect(once.attributes).toEqual(written.attributes)
  })
  fuzz(
    'anything else is refused, or read as what can be written again',
    bytesLike(libvirt),
    (given) => {
      const read = parsed(() => readXml(given.toString('utf8')), isSyntaxError)
      if (!read) return
      const written = parsed(
        () => writeXml(read),
        (error) => error instanceof RangeError,
      )
      if (written !== undefined) expect(writeXml(readXml(written))).toBe(written)
      readMetadata(read)
      describeNetwork(read)
    },
    1_000,
  )
  const entity = fc.oneof(
    fc.constantFrom('&#x110000;', '&#99999999999;', '&#x;', '&#xzz;', '&constructor;', '&toString;', '&__proto__;', '&;', '&&', '&amp'),
    fc.string(),
  )
  fuzz('entities that are none are refused', entity, (inside) => {
    const read = parsed(() => readXml(`<a b="${inside.replace(/["<]/g, '')}">${inside.replace(/</g, '')}</a>`), isSyntaxError)
    if (read) expect(JSON.stringify(read)).not.toContain('native code')
  })
  fuzz(
    'what is long or deep ends soon',
    fc.constantFrom('<a>', '<a b="', '<!--', '<![CDATA[', '&', ' a="b"', '<a '),
    (part) => {
      parsed(() => readXml(part.repeat(100_000)), isSyntaxError)
      parsed(() => readXml(`<x${part.repeat(100_000)}/>`), isSyntaxError)
    },
    20,
  )
  fuzz(
    'a machine that was described is read as it was',
    fc.tuple(fc.array(text), fc.boolean()),
    ([operations, startedToMerge]) => {
      const metadata = { stage: 'booted' as const, ownNics: [], operations, ...(startedToMerge && { startedToMerge }) }
      const domain = element('domain', {}, element('metadata', {}, metadataElement(metadata)))
      expect(readMetadata(readXml(writeXml(domain)))).toMatchObject({ ...metadata, operations })
    },
    100,
  )
})

describe("QEMU's answers", () => {
  let directory: string
  let server: Server
  let path: string
  /** What QEMU says when it is connected to. */
  let says: Buffer
  const open = new Set<Socket>()
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'portolan-fuzz-'))
    path = join(directory, 'qmp.sock')
    server = createServer((socket) => {
      open.add(socket.on('error', () => {}).on('close', () => open.delete(socket)))
      socket.resume().end(says)
    })
    await new Promise<void>((listening) => server.listen(path, listening))
  })
  afterAll(async () => {
    for (const socket of open) socket.destroy()
    await new Promise((closed) => server.close(closed))
    await rm(directory, { recursive: true })
  })
  const lines = fc
    .tuple(
      jsonTextLike({ QMP: { version: {} } }),
      jsonTextLike({ return: {} }),
      jsonTextLike({ event: 'STOP', data: {} }),
      jsonTextLike({ error: { class: 'GenericError', desc: 'no' } }),
    )
    .map((given) => Buffer.concat(given.flatMap((line) => [line, Buffer.from('\n')])))
  fuzz(
    'an answer, or an error that says that it was none',
    bytesLike(lines),
    async (given) => {
      says = given
      try {
        await withQmp(path, { answerTimeoutMs: 5_000 }, (session) => session.execute('query-status'))
      } catch (error) {
        if (!(error instanceof QmpError) && !isProviderError(error)) throw error
      }
    },
    150,
  )

  const disk = { index: 0, sizeBytes: 1, sealed: true } as MachineDisk
  const devices = jsonLike([
    { qdev: '/machine/peripheral/virtio-disk0/virtio-backend', inserted: { 'node-name': 'overlay0' } },
    { device: '' },
  ])
  const jobs = jsonLike([
    { id: 'flatten0', type: 'commit', status: 'running' },
    { id: 'flatten1', status: 'concluded', error: 'e' },
  ])
  const nodes = jsonLike([{ 'node-name': 'overlay0' }, { 'node-name': 'disk0' }])
  const status = jsonLike({ running: true, singlestep: false, status: 'running' })
  const answers = fc.record({ 'query-block': devices, 'query-jobs': jobs, 'query-named-block-nodes': nodes, 'query-status': status })
  fuzz('are read as what they say, or refused in an error of ours', answers, async (given) => {
    const session = { execute: async (command: string) => given[command as keyof typeof given] } as unknown as QmpSession
    const asked = async <Value>(question: Promise<Value>) =>
      question.catch((error: unknown) => {
        expect(error).toBeInstanceOf(ProviderError)
      })
    expect(typeof ((await asked(writesToOverlay(session, disk))) ?? true)).toBe('boolean')
    expect(typeof ((await asked(hasNode(session, 'overlay0'))) ?? true)).toBe('boolean')
    const job = await asked(mergeJob(session, disk, 'disk0'))
    if (job) expect([typeof job.status, typeof (job.error ?? '')]).toEqual(['string', 'string'])
    const found = await asked(queryStatus(session))
    if (found) expect([typeof found.running, typeof found.status]).toEqual(['boolean', 'string'])
  })
})

describe("a guest's facts", () => {
  const facts = fc.constant(
    Buffer.from(
      'uid=0\nmachine=x86_64\nkernel=6.1.0\nmemory_kib=900000\nmissing=tar\ntracefs=yes\nbase=/run\npresent=yes\ninstalled=abc\n',
    ),
  )
  const bundle = { architecture: 'x86_64', unpackedBytes: 90_000_000 } as Parameters<typeof misfits>[0]
  fuzz('whatever a guest prints, its memory is a number, and too little of it is refused', bytesLike(facts), async (stdout) => {
    const answer = { exitCode: 0, stdout: stdout.toString('utf8'), stderr: '' }
    const session = { run: async () => answer } as unknown as SshSession
    const guest = await probeGuest(session).catch((error: unknown) => {
      if (isProviderError(error)) return null
      throw error
    })
    if (!guest) return
    expect(Number.isSafeInteger(guest.memoryAvailableBytes)).toBe(true)
    const refused = misfits(bundle, guest).map(({ finding }) => finding.code)
    if (!(guest.memoryAvailableBytes >= bundle.unpackedBytes)) expect(refused).toContain('GUEST_MEMORY')
  })
})

describe('records of a site', () => {
  const record = {
    key: 'migration.m.1.started',
    writtenAt: '2026-11-22T14:00:00.000Z',
    content: { migrationId: 'm', attempt: 1, vmId: null, decided: true },
  }
  fuzz('refused, or the same when read again', jsonTextLike(record), (given) => {
    const read = parsed(() => parseSiteRecord(given.toString('utf8'), 'r'), isProviderError)
    if (!read) return
    expect(parseSiteRecord(JSON.stringify(read), 'r')).toEqual(read)
    for (const value of Object.values(read.content)) expect(typeof value === 'object' ? value : null).toBeNull()
  })
})

describe("what a plugin's process sends", () => {
  const error = errorRecord(new Error('e'), false)
  const messages = [
    { kind: 'pong' },
    { kind: 'settled', id: 1, value: { id: 'vm' } },
    { kind: 'failed', id: 1, error: { ...error, stack: 'at', vmOwner: 'source' } },
    { kind: 'log', level: 'info', message: 'm', fields: { a: 1 } },
  ]
  for (const message of messages)
    fuzz(`${message.kind}: refused, or the same when parsed again`, fc.oneof(jsonLike(message), fc.anything()), (given) => {
      const read = parseFromPlugin(given)
      if (!read) return
      expect(parseFromPlugin(read)).toEqual(read)
      if (read.kind === 'failed') expect(errorFromRecord(read.error)).toBeInstanceOf(ProviderError)
    })

  const speaking = fc.oneof(
    jsonLike(messages[2]),
    fc.constantFrom<unknown>(null, undefined, 0, [], {}, { kind: 'settled' }, { kind: '__proto__' }),
  )
  fuzz(
    'a process that says such a thing is ended, and the control plane goes on',
    speaking,
    async (said) => {
      const directory = await mkdtemp(join(tmpdir(), 'portolan-fuzz-'))
      try {
        await writeFile(
          join(directory, 'odd.mjs'),
          `process.send(${JSON.stringify(said ?? null)})
           export default { id: 'odd', apiVersion: { major: 1, minor: 0 }, options: { '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value }) } }, connect: async () => ({}) }`,
        )
        const loaded = await loadPlugin('./odd.mjs', { log: () => {}, directory }).catch((thrown: unknown) => thrown)
        if (loaded instanceof Error) expect(loaded).toBeInstanceOf(ProviderError)
      } finally {
        await rm(directory, { recursive: true })
      }
    },
    3,
  )
})

describe('what a plugin throws', () => {
  const thrown = fc.oneof(
    fc.anything(),
    fc
      .record({
        name: fc.constantFrom('ProviderError', 'AbortError', 'x'),
        message: fc.anything(),
        code: fc.anything(),
        path: fc.anything(),
        remedy: fc.anything(),
      })
      .map((members) => Object.assign(new Error('e'), members)),
  )
  fuzz('comes over as a typed error of texts', fc.tuple(thrown, fc.boolean()), ([value, cancelled]) => {
    const error = errorFromRecord(structuredClone(errorRecord(value, cancelled)))
    expect(error).toBeInstanceOf(ProviderError)
    expect([typeof error.message, typeof error.remedy, error.path.every((part) => typeof part === 'string')]).toEqual([
      'string',
      'string',
      true,
    ])
  })
})
