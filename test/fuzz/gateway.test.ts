/** What the control plane parses of agents and strangers: lines, messages, keys to be certified, requests to the relay. */
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { PassThrough } from 'node:stream'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { parseAgentMessage, parseEnrolRequest } from '../../src/agent-gateway/agent-messages.ts'
import { canonicalPublicKey, makeCertificateAuthority, type CertificateAuthority } from '../../src/agent-gateway/certificate-authority.ts'
import { readLines } from '../../src/agent-gateway/line-reader.ts'
import { createRelay, type Relay } from '../../src/agent-gateway/relay.ts'
import { bytesLike, fuzz, jsonTextLike, noise, parsed } from './support/fuzz.ts'

const isTypeError = (error: unknown) => error instanceof TypeError

describe('lines', () => {
  const maxLineBytes = 64
  fuzz('come whole, in order and no longer than allowed, or the reading ends', fc.array(noise, { maxLength: 5 }), async (chunks) => {
    const stream = new PassThrough()
    const lines: string[] = []
    const violations: string[] = []
    readLines(
      stream,
      { maxLineBytes, partialLineMs: 10_000 },
      { line: (line) => lines.push(line), violation: (reason) => violations.push(reason) },
    )
    for (const chunk of chunks) stream.write(chunk)
    stream.end()
    stream.resume()
    await once(stream, 'close')
    expect(violations.length).toBeLessThanOrEqual(1)
    for (const line of lines) expect(Buffer.byteLength(line)).toBeLessThanOrEqual(maxLineBytes + 3)
    const whole = Buffer.concat(chunks).toString('utf8').split('\n').slice(0, -1)
    // A byte order mark at the start of a line is taken away by the decoder.
    expect(lines).toEqual(whole.slice(0, lines.length).map((line) => line.replace(/^\ufeff/, '')))
    if (violations.length === 0) expect(lines).toHaveLength(whole.length)
  })
})

const hello = {
  protocol: { major: 1, minor: 0 },
  role: 'SOURCE',
  migrationId: 'm',
  agentInstanceId: 'a',
  bootId: 'b',
  architecture: 'x86_64',
  kernelRelease: '6.1',
  libc: 'glibc 2.36',
  memoryTotalBytes: 1,
  memoryAvailableBytes: 1,
  disks: [
    {
      name: 'vda',
      sizeBytes: 1,
      serial: null,
      mounts: [{ path: '/', fsType: 'ext4', device: '/dev/vda1', readOnly: false }],
      root: true,
      swap: false,
    },
  ],
}
const progress = {
  round: 0,
  scannedBytes: 1,
  totalBytes: 1,
  changedBytes: 1,
  bytesSent: 1,
  verifiedBytes: 1,
  rateBytesPerSecond: 1,
  etaMs: null,
  bottleneck: 'LINK',
  changeRateBytesPerSecond: null,
}
describe('messages of an agent', () => {
  for (const [name, valid] of Object.entries({
    hello: { hello },
    progress: { progress },
    response: { response: { id: '1', result: { root: 'x' } } },
    failure: { response: { id: '1', error: { code: 'X', message: 'm', retryable: true } } },
    alive: { alive: true },
  }))
    fuzz(`${name}: refused, or the same when parsed again`, jsonTextLike(valid), (given) => {
      const message = parsed(() => parseAgentMessage(given.toString('utf8')), isTypeError)
      if (message) expect(parseAgentMessage(JSON.stringify(message))).toEqual(JSON.parse(JSON.stringify(message)))
    })
})

describe('enrolment', () => {
  const pem = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ type: 'spki', format: 'pem' })
  const others = [
    generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }),
    generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({ type: 'spki', format: 'pem' }),
    generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ type: 'spki', format: 'pem' }),
  ]
  let authority: CertificateAuthority
  beforeAll(async () => void (authority = await makeCertificateAuthority('m')))

  fuzz(
    'a request: refused, or the same when parsed again',
    jsonTextLike({ enrol: { token: 't', role: 'SOURCE', publicKeyPem: pem } }),
    (given) => {
      const request = parsed(() => parseEnrolRequest(given.toString('utf8')), isTypeError)
      if (request) expect(parseEnrolRequest(JSON.stringify({ enrol: request }))).toEqual(request)
    },
  )
  const keys = bytesLike(fc.constantFrom(pem, ...others).map((text) => Buffer.from(text)))
  fuzz(
    'a key is refused, or certified as it is',
    keys,
    async (given) => {
      const text = given.toString('utf8')
      const key = parsed(() => canonicalPublicKey(text), isTypeError)
      const certificate = await authority.issueLeaf('SOURCE', text).catch((error: unknown) => {
        if (isTypeError(error)) return null
        throw error
      })
      expect(certificate === null).toBe(key === undefined)
      if (key) expect(Buffer.from(certificate!.replace(/-----[^-]+-----|\s/g, ''), 'base64').includes(key)).toBe(true)
    },
    150,
  )
})

describe('the relay', () => {
  let relay: Relay
  const limits = { requestMs: 2_000, unpairedMs: 50, idleMs: 2_000, maxUnpaired: 16 }
  beforeAll(async () => {
    relay = await createRelay({ listen: [{ host: '127.0.0.1', port: 0 }], limits, log: () => {} })
    relay.admit('token')
  })
  afterAll(() => relay.close())

  fuzz(
    'closes on whoever does not ask as it should, and pairs nobody by mistake',
    jsonTextLike({ relay: { token: 'token', role: 'SOURCE' } }),
    async (given) => {
      const socket = connect(relay.addresses[0]!).on('error', () => {})
      let heard = ''
      socket.setEncoding('utf8').on('data', (text: string) => (heard += text))
      socket.end(Buffer.concat([given, Buffer.from('\n')]))
      await new Promise((closed) => socket.once('close', closed))
      expect(heard).toBe('')
    },
    60,
  )
})
