/** Children where nothing forks: what is asked of a provider, and who is spoken with. */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:tls'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { bootChild, removeBootedChild, roomForBooted } from '../../src/workflows/booted-children.ts'
import { bootingCloud, hello, type BootingCloud } from './support/booting-cloud.ts'

const mebibyte = 2 ** 20
const image = { kernelPath: '/kernel', initrdPath: '/initrd', commandLine: 'quiet', ramBytes: 100 * mebibyte }
let cloud: BootingCloud

beforeEach(() => {
  cloud = bootingCloud()
})
afterEach(() => cloud.close())

const signal = AbortSignal.timeout(30_000)
async function boot(id = randomUUID()) {
  const channel = await bootChild(cloud.connection, { id, image, memoryBytes: 192 * mebibyte, cpuCount: 2 }, signal)
  if (!('connect' in channel)) throw new Error('no way to connect')
  return channel
}

test('it is isolated before anybody speaks with it, and has memory for what it boots from, too', async () => {
  const channel = await boot()
  const socket = await channel.connect(signal)
  expect(String((await once(socket, 'data'))[0])).toBe(`${JSON.stringify(hello)}\n`)
  expect(cloud.calls).toEqual(['instantiate', 'isolate', 'reachability'])
  expect(cloud.asked[0]!.virtualMachine).toMatchObject({ memoryBytes: 292 * mebibyte, cpuCount: 2, nics: [{ networkId: 'default' }] })
  socket.destroy()
})

test('whoever has no certificate of its own authority, or that of another child, is refused', async () => {
  const [one, other] = [randomUUID(), randomUUID()]
  await boot(one)
  await boot(other)
  const { port } = cloud.guests.get(one)!.server.address() as AddressInfo
  const ofAnother = cloud.asked[1]!.inject.find(({ path }) => path.endsWith('server.pem'))!.content
  for (const identity of [{}, { key: ofAnother, cert: ofAnother }]) {
    const stranger = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...identity })
    const said: Buffer[] = []
    stranger.on('data', (chunk: Buffer) => said.push(chunk)).on('error', () => {})
    await new Promise((closed) => stranger.on('close', closed))
    expect(Buffer.concat(said).toString()).toBe('')
  }
  expect(cloud.calls.filter((call) => call === 'refused')).toHaveLength(2)
})

test('a machine at the address of the child that is not the child is not spoken with', async () => {
  const [child, impostor] = [randomUUID(), randomUUID()]
  const channel = await boot(child)
  await boot(impostor)
  const served = cloud.guests.get(impostor)!
  cloud.guests.set(child, served)
  await expect(channel.connect(AbortSignal.timeout(1_500))).rejects.toThrow()
  expect(served.sockets.size).toBe(0)
})

test('the channel closes once its machine is off, and not while nobody knows', async () => {
  const socket = await (await boot()).connect(signal)
  const closed = new Promise<string>((done) => socket.on('error', ({ message }) => done(message)))
  cloud.power = 'UNKNOWN'
  await new Promise((later) => setTimeout(later, 3_500))
  expect(socket.destroyed).toBe(false)
  cloud.power = 'STOPPED'
  expect(await closed).toBe('its virtual machine is off.')
})

test('it is removed by its unique id, whoever has lost its other one, and removing none is a success', async () => {
  const id = randomUUID()
  await boot(id)
  await removeBootedChild(cloud.connection, id)
  await removeBootedChild(cloud.connection, id)
  expect(cloud.calls.filter((call) => call.startsWith('delete'))).toEqual([`delete vm-${id}`])
})

test('as many fit as the free memory holds, and a cloud without a network takes none', async () => {
  const child = { image, memoryBytes: 192 * mebibyte, cpuCount: 1 }
  expect(await roomForBooted(cloud.connection, child, signal)).toEqual({
    room: 2,
    bound: '2 more children fit that boot by themselves, which take 420 MiB each.',
  })
  cloud.freeMemoryBytes = undefined
  expect((await roomForBooted(cloud.connection, child, signal)).room).toBe(4)
  cloud.networks = []
  await expect(boot()).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('no network') as string })
  expect(cloud.calls).not.toContain('instantiate')
})
