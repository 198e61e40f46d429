/** What the agent in the live guest does for the control plane. It alone reads the source's disk, and it never writes to a file system of it, but for the canary. */
import type { AgentIdentity } from '../../transfer/channel.ts'
import type { RoundProgress, RoundResult } from '../../transfer/control-protocol.ts'
import { rootWithExclusion } from '../../transfer/exclusion-messages.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import { createWirePace } from '../../transfer/wire-pace.ts'
import type { ControlHandlers } from './control-link.ts'
import { connectToDestination, type DataConnection, type DataLinkTarget } from './data-link.ts'
import { createFreezer } from './freezer.ts'
import { createHookCommands } from './hook-command.ts'
import { listNics } from './network-interfaces.ts'
import { createRoundRunner, type RoundParams } from './round-runner.ts'
import { pendingBlocks } from './source-disk.ts'
import { startTracking, type TrackedDisk } from './tracked-disk.ts'

export interface SourceAgentOptions {
  identity: AgentIdentity
  /** On tmpfs; the agent's own. */
  directory: string
  report(progress: RoundProgress): void
  log(message: string): void
}

/** A link that is gone longer than this fails the round; it goes on where it was when the round is run again. */
const reconnectMs = 60_000
/** The control plane asks again for the last one only. */
const rememberedRounds = 16

interface RunningRound {
  params: RoundParams
  stop: AbortController
  result: Promise<RoundResult>
}

export function createSourceAgent({ identity, directory, report, log }: SourceAgentOptions): {
  handlers: ControlHandlers
  close(): Promise<void>
} {
  const freezer = createFreezer(directory)
  const pace = createWirePace()
  const hooks = createHookCommands()
  const finished = new Map<number, RoundResult>()
  let tracked: { name: string; disk: Promise<TrackedDisk> } | null = null
  let target: DataLinkTarget | null = null
  let connection: DataConnection | null = null
  let wireBytesOfClosed = 0
  let running: RunningRound | null = null
  let frozenAs: string | null = null
  /** The freeze under which a round left nothing: what is written from then on is in no copy. */
  let copiedUnder: string | null = null

  const wireBytes = () => wireBytesOfClosed + (connection?.channel.wireBytes ?? 0)
  const runRound = createRoundRunner({ connect, wireBytes, pace, report })

  async function connect(signal: AbortSignal, timeoutMs = reconnectMs): Promise<DataConnection> {
    if (connection) return connection
    if (!target)
      throw new TransferError('NOT_CONNECTED', 'The source agent was not told where the destination is: transfer.connect comes first.', {
        retryable: false,
      })
    const made = await connectToDestination(target, identity, timeoutMs, signal, pace)
    connection = made
    void whenClosed(made)
    return made
  }

  async function whenClosed(made: DataConnection): Promise<void> {
    const reason = await made.channel.closed
    log(reason.message)
    wireBytesOfClosed += made.channel.wireBytes
    if (connection === made) connection = null
  }

  async function trackedDisk(): Promise<TrackedDisk> {
    if (tracked) return tracked.disk
    throw new TransferError('NOT_TRACKING', 'The source agent does not track a disk yet: tracking.start comes first.', { retryable: false })
  }

  /** Not every write is held off by a freeze: a file system that the agent does not see, or who writes past it, goes on. */
  async function isCopyOutdated(freezeId: string): Promise<boolean> {
    if (copiedUnder !== freezeId) return false
    const { disk, tracker } = await trackedDisk()
    await tracker?.drain()
    return tracker?.lost === true || pendingBlocks(disk) > 0
  }

  const handlers: ControlHandlers = {
    async 'transfer.connect'({ endpoints, relay, timeoutMs }) {
      target = { endpoints: endpoints ?? [], relay: relay ?? null }
      return { via: (await connect(AbortSignal.timeout(timeoutMs), timeoutMs)).via }
    },
    async 'tracking.start'({ disk, excludedDirectories = [] }) {
      if (tracked && tracked.name !== disk) {
        throw new TransferError('INVALID_REQUEST', `The source agent tracks ${tracked.name} already.`, { retryable: false })
      }
      tracked ??= { name: disk, disk: startTracking({ name: disk, migrationId: identity.migrationId, directory, excludedDirectories }) }
      try {
        const { tracker, reason } = await tracked.disk
        return { mode: tracker ? 'TRACEFS' : 'RESCAN', reason }
      } catch (error) {
        tracked = null
        throw error
      }
    },
    async 'round.run'(params) {
      const known = finished.get(params.round)
      if (known) return known
      if (running?.params.round === params.round) return running.result
      if (running) throw new TransferError('ANOTHER_ROUND_RUNS', `Round ${running.params.round} still runs.`, { retryable: true })
      const stop = new AbortController()
      const under = frozenAs
      const result = trackedDisk()
        .then(async (disk) => {
          await disk.checkSize()
          return runRound(disk, params, stop.signal)
        })
        .finally(() => (running = null))
      running = { params, stop, result }
      finished.set(params.round, await result)
      if (under !== null && (await result).pendingBytes === 0) copiedUnder = under
      if (finished.size > rememberedRounds) for (const [oldest] of finished) if (finished.delete(oldest)) break
      return result
    },
    async 'bandwidth.set'({ limitBytesPerSecond }) {
      pace.limitBytesPerSecond = limitBytesPerSecond
      return {}
    },
    async 'round.stop'() {
      const stopped = running
      stopped?.stop.abort()
      await stopped?.result.catch(() => {})
      return {}
    },
    async freeze({ freezeId, leaseMs }) {
      const { mountsNow, checkSize } = await trackedDisk()
      await checkSize()
      const mounts = await mountsNow()
      const writable = mounts.filter((mount) => !mount.readOnly).map((mount) => mount.path)
      const result = await freezer.freeze(freezeId, writable, leaseMs)
      frozenAs = freezeId
      return result
    },
    'freeze.renew': async ({ freezeId, leaseMs }) => ({
      held: (await freezer.renew(freezeId, leaseMs)) && !(await isCopyOutdated(freezeId)),
    }),
    thaw: async ({ freezeId }) => ({ held: await freezer.thaw(freezeId) }),
    async root() {
      const { disk } = await trackedDisk()
      return { root: rootWithExclusion(disk.tree.root(), disk.excluded).toString('hex'), blocks: disk.geometry.blockCount }
    },
    interfaces: async () => ({ nics: await listNics() }),
    'hook.run': (params) => hooks.run(params),
  }

  return {
    handlers,
    async close() {
      // What is frozen stays so until its lease lapses: whoever ends the agent need not be the control plane, which relies on it.
      hooks.close()
      running?.stop.abort()
      await running?.result.catch(() => {})
      connection?.channel.close(new TransferError('LINK_LOST', 'The source agent ends.', { retryable: false }))
      await tracked?.disk.then((disk) => disk.close()).catch((error: unknown) => log(String(error)))
    },
  }
}
