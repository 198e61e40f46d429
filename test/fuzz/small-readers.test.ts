/** Smaller readers: of the engine's admin API, which may be on another machine, of host keys, of apt's plan, of our own API's events, and of the addresses that webhooks are sent to. */
import { createServer, type Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import * as fc from 'fast-check'
import { afterAll, afterEach, beforeAll, describe, expect, vi } from 'vitest'
import { createGraphqlClient } from '../../src/cli/graphql-client.ts'
import { PortolanError } from '../../src/domain/errors.ts'
import { createAdminClient } from '../../src/engine/admin-client.ts'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { openSshSession } from '../../src/plugin-sdk/installers/ssh-session.ts'
import { plannedPackages } from '../../src/workflows/debian-packages.ts'
import { webhookAddresses } from '../../src/workflows/webhook-addresses.ts'
import { bytesLike, fuzz, jsonTextLike, parsed } from './support/fuzz.ts'
import { like } from './support/libvirt-answers.ts'

describe("the engine's admin API", () => {
  let server: Server
  let says: Buffer
  const asked: string[] = []
  beforeAll(async () => {
    server = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`)
      request.resume().once('end', () => response.end(request.method === 'GET' ? says : '{}'))
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
  })
  afterAll(async () => {
    server.closeAllConnections()
    await new Promise((closed) => server.close(closed))
  })
  const deployments = fc.oneof(
    jsonTextLike({ deployments: [{ id: 'dp_17sXQ', uri: 'http://127.0.0.1:1/' }, { id: 'dp_2' }] }),
    fc.constantFrom('..', '.', 'a/../b', 'a?b', '%2e%2e', '').map((id) => Buffer.from(JSON.stringify({ deployments: [{ id }] }))),
  )
  fuzz(
    'is told of the service in its deployments only, or an error says what it answered',
    deployments,
    async (answer) => {
      says = answer
      asked.length = 0
      const admin = createAdminClient(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
      const failure = await admin
        .register('http://127.0.0.1:2/', { onlyDeployment: true, signal: AbortSignal.timeout(20_000) })
        .catch((error: unknown) => error as Error)
      if (failure) expect(failure.message).toMatch(/^The engine's admin API at \S+ answered GET \/deployments with/)
      for (const request of asked.slice(1)) expect(request).toMatch(/^(PATCH \/deployments\/[\w-]+|POST \/deployments)$/)
      expect(failure === undefined).toBe(asked.length > 1)
    },
    100,
  )
})

describe('a host key of a guest', () => {
  const types = ['ssh-ed25519', 'ecdsa-sha2-nistp256', 'ssh-rsa']
  const keyOf = (type: string) =>
    `${type} ${Buffer.concat([Buffer.from([0, 0, 0, type.length]), Buffer.from(type), Buffer.alloc(36, 7)]).toString('base64')} root@guest`
  const line = fc.oneof(fc.constantFrom(...types, 'ssh-dss', 'constructor', '__proto__', '').map(keyOf), like(keyOf('ssh-ed25519')))
  fuzz('is one of a kind that is known, or refused', line, async (given) => {
    // Keys are read first; then nobody is connected to.
    const access = { endpoint: { host: '127.0.0.1', port: 1 }, user: 'root', privateKey: '', hostKeys: [given] }
    const refusal: unknown = await openSshSession(access, AbortSignal.abort()).catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(ProviderError)
    const [type = ''] = given.trim().split(/\s+/)
    if (!/^(ssh-ed25519|ecdsa-sha2-nistp\d+|ssh-rsa)$/.test(type)) expect(refusal).toMatchObject({ code: 'INVALID_OPTIONS' })
    if (types.some((one) => given === keyOf(one))) expect(refusal).toMatchObject({ code: 'CANCELLED' })
  })
})

describe("apt's plan", () => {
  const uri =
    "'http://deb.debian.org/debian/pool/main/libx/libxcrypt/libcrypt1_4.4.33-2_amd64.deb' libcrypt1_1%3a4.4.33-2_amd64.deb 89180 MD5Sum:f1"
  fuzz(
    'is archives in their directory, or refused',
    like(`Reading package lists...\n${uri}\n${uri.replaceAll('crypt1', 'z3')}\n`),
    (output) => {
      const packages = parsed(
        () => plannedPackages(output, '/archives'),
        (error) => error instanceof PortolanError,
      )
      for (const { name, version, path } of packages ?? []) {
        expect(path).toMatch(/^\/archives\/[^/]+\.deb$/)
        expect(name).toMatch(/^[a-z0-9][a-z0-9+.-]+$/)
        expect(version).not.toBe('')
      }
      if (packages) expect(packages).toHaveLength(output.split('\n').filter((each) => each.startsWith("'")).length)
    },
  )
})

describe("our API's events", () => {
  afterEach(() => vi.unstubAllGlobals())
  const events = fc.array(fc.record({ data: fc.record({ text: fc.string({ unit: 'grapheme' }), more: fc.jsonValue() }) }), { maxLength: 6 })
  fuzz(
    'come whole and in order, in whatever pieces',
    fc.tuple(events, fc.integer({ min: 1, max: 50 })),
    async ([sent, length]) => {
      const text = [...sent.map((event) => `event: next\ndata: ${JSON.stringify(event)}\n\n`), ':\n\n', 'event: complete\ndata:\n\n'].join(
        '',
      )
      const bytes = Buffer.from(text)
      const pieces = Array.from({ length: Math.ceil(bytes.length / length) }, (_, index) =>
        bytes.subarray(index * length, (index + 1) * length),
      )
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          for (const piece of pieces) controller.enqueue(piece)
          controller.close()
        },
      })
      vi.stubGlobal('fetch', async () => new Response(body))
      const client = createGraphqlClient('http://api', 'token')
      const heard: unknown[] = []
      for await (const data of client.subscribe('subscription { x }', {}, AbortSignal.timeout(20_000))) heard.push(data)
      expect(heard).toEqual(sent.map(({ data }) => JSON.parse(JSON.stringify(data)) as unknown))
    },
    60,
  )
})

describe('where a webhook may go', () => {
  const part = fc.integer({ min: 0, max: 255 })
  const address = fc.oneof(
    fc.tuple(fc.constant(127), part, part, part),
    fc.tuple(fc.constant(169), fc.constant(254), part, part),
    fc.constantFrom<[number, number, number, number]>([100, 100, 100, 200], [168, 63, 129, 16]),
  )
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0')
  const written = address.chain((parts) => {
    const number = parts.reduce((sum, each) => sum * 256 + each, 0)
    const dotted = parts.join('.')
    const groups = `${hex(Math.floor(number / 65_536), 1)}:${hex(number % 65_536, 1)}`
    return fc.constantFrom(
      dotted,
      `${number}`,
      `0x${hex(number, 8)}`,
      parts.map((each) => `0${each.toString(8)}`).join('.'),
      `${dotted}.`,
      `[::ffff:${dotted}]`,
      `[::ffff:${groups}]`,
      `[64:ff9b::${groups}]`,
    )
  })
  fuzz('is not this machine nor where clouds tell about it, however the address is written', written, (host) => {
    const { requireAllowed } = webhookAddresses([])
    expect(() => requireAllowed(new URL(`https://${host}/hook`))).toThrow(/Webhooks may not reach/)
  })
  fuzz('is an allowed range only where that is one', bytesLike(fc.constant(Buffer.from('10.0.0.0/8'))), (bytes) => {
    parsed(
      () => webhookAddresses([bytes.toString('utf8')]),
      (error) => error instanceof Error && error.message.endsWith('correct webhooks.allow in the configuration.'),
    )
  })
})
