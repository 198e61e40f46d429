/**
 * The source's way to the destination: endpoints in order, then the relay. Dials anew whenever a connection is asked for and none lives.
 */
import { linkLost, openChannel, type AgentIdentity, type Channel } from '../../transfer/channel.ts'
import { decodeJson, encodeJson, frameTypes } from '../../transfer/data-messages.ts'
import { dial, dialThroughRelay } from '../../transfer/dial.ts'
import type { Frame } from '../../transfer/frame.ts'
import { negotiate, transferHello, type Agreement } from '../../transfer/negotiate.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import type { WirePace } from '../../transfer/wire-pace.ts'
import { setTimeout as sleep } from 'node:timers/promises'

export interface DataLinkTarget {
  endpoints: { host: string; port: number }[]
  relay: { host: string; port: number; token: string } | null
}

export interface DataConnection {
  channel: Channel
  agreement: Agreement
  via: 'DIRECT' | 'RELAY'
}

const dialMs = 3000
const relayMs = 20_000
const introductionMs = 10_000
const maxPauseMs = 2000

/** Tries every way again and again until one works. Throws the last TransferError after `timeoutMs`, and at once when the signal aborts. */
export async function connectToDestination(
  target: DataLinkTarget,
  identity: AgentIdentity,
  timeoutMs: number,
  signal: AbortSignal,
  pace: WirePace,
): Promise<DataConnection> {
  const until = performance.now() + timeoutMs
  let failure: unknown = null
  let refusal: TransferError | null = null
  let onlyRefusals = true
  for (let pauseMs = 100; ; pauseMs = Math.min(maxPauseMs, pauseMs * 2)) {
    for (const way of waysTo(target)) {
      try {
        return await way(identity, Math.max(1, Math.ceil(until - performance.now())), signal, pace)
      } catch (error) {
        failure = error
        if (error instanceof TransferError && error.code === 'PEER_REFUSED') refusal = error
        else onlyRefusals = false
      }
      signal.throwIfAborted()
    }
    // A refusal says more than the silence of the other ways; but it may be a stranger's at an old address, and one of those may work again.
    if (performance.now() + pauseMs > until) throw refusal && !onlyRefusals ? lostAndRefused(refusal) : failure
    await sleep(pauseMs, undefined, { signal })
  }
}

function lostAndRefused(refusal: TransferError): TransferError {
  return new TransferError('LINK_LOST', refusal.message, { retryable: true, cause: refusal })
}

type Way = (identity: AgentIdentity, leftMs: number, signal: AbortSignal, pace: WirePace) => Promise<DataConnection>

function waysTo(target: DataLinkTarget): Way[] {
  const direct = target.endpoints.map<Way>((endpoint) => async (identity, leftMs, signal, pace) => {
    const socket = await dial(endpoint, Math.min(dialMs, leftMs), signal)
    return introduce(await openChannel(socket, identity, signal, pace), identity, 'DIRECT', leftMs, signal)
  })
  const { relay } = target
  if (!relay) return direct
  return [
    ...direct,
    async (identity, leftMs, signal, pace) => {
      const socket = await dialThroughRelay(relay, identity.role, Math.min(relayMs, leftMs), signal)
      return introduce(await openChannel(socket, identity, signal, pace), identity, 'RELAY', leftMs, signal)
    },
  ]
}

/** Both sides' hello. The source's handler for the frames after it is set by whoever gets the connection. */
async function introduce(
  channel: Channel,
  identity: AgentIdentity,
  via: DataConnection['via'],
  leftMs: number,
  signal: AbortSignal,
): Promise<DataConnection> {
  const own = transferHello(identity.migrationId, identity.role)
  // A peer that is alive, and pings, but says nothing else would be waited for without end.
  const over = AbortSignal.any([signal, AbortSignal.timeout(Math.min(introductionMs, leftMs))])
  const giveUp = () => channel.close(linkLost('the destination did not introduce itself'))
  if (over.aborted) giveUp()
  over.addEventListener('abort', giveUp)
  channel.send(frameTypes.hello, 0, encodeJson(own)).catch(() => {})
  try {
    const first = await firstFrame(channel)
    if (first.type !== frameTypes.hello)
      throw new TransferError('PROTOCOL', 'The destination did not introduce itself first.', { retryable: true })
    return { channel, agreement: negotiate(own, decodeJson(first)), via }
  } catch (error) {
    if (error instanceof TransferError) channel.close(error)
    throw error
  } finally {
    over.removeEventListener('abort', giveUp)
  }
}

function firstFrame(channel: Channel): Promise<Frame> {
  return new Promise((resolve, reject) => {
    void channel.closed.then(reject)
    channel.start((frame) => resolve(frame))
  })
}
