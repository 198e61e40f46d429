/** A TCP forwarder on loopback that cuts, flips a bit, or slows down on demand. */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export interface FaultyLink {
  readonly port: number
  readonly targetPort: number
  readonly bytesForwarded: number
  readonly cuts: number
  readonly flips: number
  /** Cuts all connections whenever so many bytes have passed, `times` times. */
  cutEvery(bytes: number, times: number): void
  flipBitAfter(bytes: number): void
  limitBytesPerSecond(limit: number | null): void
  /** Ends all connections and refuses new ones until `restore`. */
  cut(): void
  restore(): void
  close(): Promise<void>
}

export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

export async function startFaultyLink(targetPort: number): Promise<FaultyLink> {
  const sockets = new Set<Socket>()
  let bytesForwarded = 0
  let cuts = 0
  let flips = 0
  let severed = false
  let nextCut = Infinity
  let cutBytes = 0
  let cutsLeft = 0
  let flipAt = Infinity
  let limit: number | null = null

  function dropAll(): void {
    for (const socket of sockets) socket.resetAndDestroy()
  }
  async function pump(from: Socket, to: Socket): Promise<void> {
    for await (const piece of from) {
      const chunk: Buffer = piece
      bytesForwarded += chunk.length
      if (bytesForwarded >= flipAt) {
        flipAt = Infinity
        flips++
        chunk[chunk.length >> 1]! ^= 4
      }
      if (limit !== null) await sleep((chunk.length / limit) * 1000)
      if (!to.write(chunk)) await new Promise<void>((resolve) => to.once('drain', resolve).once('close', () => resolve()))
      if (bytesForwarded >= nextCut && cutsLeft > 0) {
        cuts++
        cutsLeft--
        nextCut = bytesForwarded + cutBytes
        dropAll()
      }
    }
    to.end()
  }
  const server = createServer((client) => {
    if (severed) return void client.resetAndDestroy()
    const target = connect(targetPort, '127.0.0.1')
    for (const socket of [client, target]) {
      sockets.add(socket)
      socket.on('error', () => {}).once('close', () => sockets.delete(socket))
    }
    pump(client, target).catch(() => target.destroy())
    pump(target, client).catch(() => client.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))

  return {
    port: (server.address() as AddressInfo).port,
    targetPort,
    get bytesForwarded() {
      return bytesForwarded
    },
    get cuts() {
      return cuts
    },
    get flips() {
      return flips
    },
    cutEvery(bytes, times) {
      cutBytes = bytes
      cutsLeft = times
      nextCut = bytesForwarded + bytes
    },
    flipBitAfter(bytes) {
      flipAt = bytesForwarded + bytes
    },
    limitBytesPerSecond(next) {
      limit = next
    },
    cut() {
      severed = true
      dropAll()
    },
    restore() {
      severed = false
    },
    async close() {
      dropAll()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
