import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createRelay, type Relay } from '../../src/agent-gateway/relay.ts'

let relay: Relay
const sockets: Socket[] = []
beforeEach(async () => {
  const limits = { requestMs: 200, unpairedMs: 300, idleMs: 300, maxUnpaired: 6 }
  relay = await createRelay({ listen: [{ host: '127.0.0.1', port: 0 }], limits, log: () => undefined })
  relay.admit('token')
})
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await relay.close()
})

function open(): Socket {
  const socket = connect({ port: relay.addresses[0]!.port, host: '127.0.0.1' }).on('error', () => undefined)
  sockets.push(socket)
  return socket
}
function ask(role: 'SOURCE' | 'DESTINATION', token = 'token'): Socket {
  const socket = open()
  socket.write(`${JSON.stringify({ relay: { token, role } })}\n`)
  return socket
}
/** Reads the relay's answer and nothing after it. */
async function paired(socket: Socket): Promise<void> {
  const answer = '{"paired":{}}\n'
  let text = ''
  while (text.length < answer.length) {
    text += String(socket.read(answer.length - text.length) ?? '')
    if (text.length < answer.length) await once(socket, 'readable')
  }
  expect(text).toBe(answer)
}
async function pair(): Promise<[Socket, Socket]> {
  const both: [Socket, Socket] = [ask('SOURCE'), ask('DESTINATION')]
  await Promise.all(both.map(paired))
  return both
}
/** Not stream/consumers: those destroy the socket at the end of its reading, while it may still have much to write. */
async function received(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => void chunks.push(chunk))
  await once(socket, 'end')
  return Buffer.concat(chunks)
}
const closed = (socket: Socket) => (socket.closed ? Promise.resolve() : once(socket.resume(), 'close'))
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

describe('two agents with the same token', () => {
  test("get each other's bytes, all of them, both ways, and the end of each", async () => {
    const [source, destination] = await pair()
    const there = randomBytes(8 << 20)
    const back = randomBytes(3 << 20)
    source.end(there)
    destination.end(back)
    const [gotThere, gotBack] = await Promise.all([received(destination), received(source)])
    expect(sha256(gotThere)).toBe(sha256(there))
    expect(sha256(gotBack)).toBe(sha256(back))
  })

  test("feel each other's back-pressure", async () => {
    const [source, destination] = await pair()
    destination.pause()
    const chunk = Buffer.alloc(1 << 20)
    let sent = 0
    while (sent < 256 && source.writableLength < 4 << 20) {
      source.write(chunk)
      sent += 1
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(sent).toBeLessThan(256)
  })

  test('pair again after a drop, and a newer connection replaces one that hangs', async () => {
    const [source, destination] = await pair()
    const again = ask('SOURCE')
    await Promise.all([closed(source), closed(destination)])
    await Promise.all([paired(again), paired(ask('DESTINATION'))])
  })

  test('lose both ends when one goes, and when nothing passes', async () => {
    const [source, destination] = await pair()
    source.destroy()
    await closed(destination)
    const idle = await pair()
    await Promise.all(idle.map(closed))
  })

  test('are cut off, and refused, once the migration is closed', async () => {
    const both = await pair()
    relay.expel('token')
    await Promise.all(both.map(closed))
    await closed(ask('SOURCE'))
  })
})

describe('the relay closes', () => {
  test('a wrong token, an unknown role, a broken line, an endless line, and bytes after the request', async () => {
    await closed(ask('SOURCE', 'other'))
    for (const line of [
      '{"relay":{"token":"token","role":"BOTH"}}\n',
      'GET / HTTP/1.1\r\n\r\n',
      'x'.repeat(300),
      '{"relay":{"token":"token","role":"SOURCE"}}\nmore',
    ]) {
      const socket = open()
      socket.write(line)
      await closed(socket)
    }
  })

  test('who asks nothing, and who stays alone', async () => {
    await Promise.all([closed(open()), closed(ask('SOURCE'))])
  })

  test('the oldest that waits when there are too many', async () => {
    const first = open()
    for (let count = 0; count < 6; count += 1) open()
    await closed(first)
  })

  test('never two migrations together', async () => {
    relay.admit('other')
    const source = ask('SOURCE')
    const stranger = ask('DESTINATION', 'other')
    await Promise.all([closed(source), closed(stranger)])
    expect(stranger.bytesRead).toBe(0)
  })
})
