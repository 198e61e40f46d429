/** What the agent in the landing image does for the control plane: it takes the copy, says what it holds, and prepares the guest for its new place. */
import { createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { linkLost, openChannel, type AgentIdentity, type Channel } from '../../transfer/channel.ts'
import { decodeJson, encodeJson, frameTypes } from '../../transfer/data-messages.ts'
import { dialThroughRelay } from '../../transfer/dial.ts'
import { rootWithExclusion } from '../../transfer/exclusion-messages.ts'
import { negotiate, transferHello } from '../../transfer/negotiate.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import { findDisk } from './block-devices.ts'
import type { ControlHandlers } from './control-link.ts'
import { emptyDirectories } from './empty-directories.ts'
import { openDiskDevice, type DiskDevice } from './disk-device.ts'
import { fixUpDisk } from './fix-up/fix-up-disk.ts'
import { createReceiver, type Receiver } from './receiver.ts'
import { serveSource } from './receiving-conversation.ts'

export interface DestinationAgentOptions {
  identity: AgentIdentity
  agentInstanceId: string
  log(message: string): void
}

interface Receiving {
  /** As the control plane asked for it. */
  name: string
  kernelName: string
  sizeBytes: number
  empty: boolean
  device: DiskDevice
  receiver: Promise<Receiver> | null
}

const relayWaitMs = 60_000

export function createDestinationAgent({ identity, agentInstanceId, log }: DestinationAgentOptions): {
  handlers: ControlHandlers
  close(): Promise<void>
} {
  const closing = new AbortController()
  let server: { port: number; listening: Promise<Server> } | null = null
  let relayToken: string | null = null
  let receiving: Receiving | null = null
  let current: { channel: Channel; ended: Promise<void> } | null = null

  /** One source at a time: a newer connection replaces the older, whose work ends first. */
  async function serve(socket: Socket): Promise<void> {
    const channel = await openChannel(socket, identity, closing.signal)
    const before = current
    before?.channel.close(linkLost('the source dialled in again'))
    const ended = introduceAndServe(channel, before?.ended).catch((error: unknown) => {
      if (error instanceof TransferError) channel.close(error)
      log(String(error))
    })
    current = { channel, ended }
    await ended
  }

  async function introduceAndServe(channel: Channel, before: Promise<void> | undefined): Promise<void> {
    await before
    const own = transferHello(identity.migrationId, identity.role)
    const hello = await new Promise<Record<string, unknown>>((resolve, reject) => {
      void channel.closed.then(reject)
      channel.start((frame) => {
        if (frame.type !== frameTypes.hello)
          throw new TransferError('PROTOCOL', 'The source did not introduce itself first.', { retryable: true })
        // The source waits for the answer before it says more.
        resolve(decodeJson(frame))
      })
    })
    negotiate(own, hello)
    const served = serveSource(channel, { receiverId: agentInstanceId, openReceiver })
    await channel.send(frameTypes.hello, 0, encodeJson(own))
    await served
  }

  async function openReceiver(diskBytes: number): Promise<Receiver> {
    const disk = receiving
    if (!disk)
      throw new TransferError('NOT_RECEIVING', 'The destination agent has no disk to receive on yet: receive.start comes first.', {
        retryable: true,
      })
    if (disk.sizeBytes < diskBytes) {
      throw new TransferError(
        'DISK_TOO_SMALL',
        `The destination's disk has ${disk.sizeBytes} bytes, fewer than the source's ${diskBytes}. Nothing was written.`,
        {
          retryable: false,
        },
      )
    }
    disk.receiver ??= createReceiver(disk.device, diskBytes, disk.empty, closing.signal)
    try {
      const receiver = await disk.receiver
      if (receiver.geometry.diskBytes === diskBytes) return receiver
    } catch (error) {
      disk.receiver = null
      throw error
    }
    throw new TransferError('PROTOCOL', 'The source changed the size of its disk within a migration.', { retryable: false })
  }

  function listen(port: number): Promise<Server> {
    return new Promise((resolve, reject) => {
      const made = createServer((socket) => void serve(socket).catch((error: unknown) => log(String(error))))
      made.once('error', reject)
      made.listen(port, () => resolve(made))
    })
  }

  async function stayAtRelay(relay: { host: string; port: number; token: string }): Promise<void> {
    while (!closing.signal.aborted && relayToken === relay.token) {
      try {
        await serve(await dialThroughRelay(relay, identity.role, relayWaitMs, closing.signal))
      } catch (error) {
        log(String(error))
      }
      await sleep(200, undefined, { signal: closing.signal }).catch(() => {})
    }
  }

  const handlers: ControlHandlers = {
    /** Returns once it can be reached, not once it was. */
    async 'transfer.connect'({ listenPort, relay }) {
      if (listenPort !== undefined && server?.port !== listenPort) {
        await server?.listening.then((old) => old.close())
        server = { port: listenPort, listening: listen(listenPort) }
      }
      try {
        await server?.listening
      } catch (error) {
        server = null
        throw new TransferError('NOT_CONNECTED', `The destination agent can't listen on port ${listenPort}: ${String(error)}`, {
          retryable: true,
          cause: error,
        })
      }
      if (relay && relayToken !== relay.token) {
        relayToken = relay.token
        void stayAtRelay(relay)
      }
      return { via: listenPort === undefined ? 'RELAY' : 'DIRECT' }
    },
    async 'receive.start'({ disk, empty }) {
      if (receiving?.name === disk) return {}
      const found = await findDisk(disk)
      if (!found) throw new TransferError('UNKNOWN_DISK', `The destination has no disk ${JSON.stringify(disk)}.`, { retryable: true })
      receiving = {
        name: disk,
        kernelName: found.name,
        sizeBytes: found.sizeBytes,
        empty,
        device: await openDiskDevice(`/dev/${found.name}`, 'READ_WRITE'),
        receiver: null,
      }
      return {}
    },
    async root() {
      if (!receiving?.receiver)
        throw new TransferError('NOT_RECEIVING', 'The destination agent has received nothing yet.', { retryable: true })
      const { tree, geometry, excluded } = await receiving.receiver
      return { root: rootWithExclusion(tree.root(), excluded).toString('hex'), blocks: geometry.blockCount }
    },
    async fixUp(request) {
      if (!receiving)
        throw new TransferError('NOT_RECEIVING', 'The destination agent has no disk to fix up: receive.start comes first.', {
          retryable: false,
        })
      // First, since what follows may need room on the disk.
      const emptied = request.empty?.length ? [await emptyDirectories(receiving.kernelName, request.empty)] : []
      return { steps: [...emptied, ...(await fixUpDisk(receiving.kernelName, request))] }
    },
  }

  return {
    handlers,
    async close() {
      closing.abort()
      current?.channel.close(new TransferError('LINK_LOST', 'The destination agent ends.', { retryable: false }))
      await current?.ended
      await server?.listening.then((listening) => listening.close()).catch(() => {})
      await receiving?.device.close()
    },
  }
}
