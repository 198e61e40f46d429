/**
 * One round at the source: from the blocks that changed (or all of them) to the destination's word that it holds, has flushed and has re-read them.
 *
 *   planned -> connected -> compared (FULL only) -> sent -> verified -> flushed
 *       ^__________________ link lost: what was not verified is sent first on the next connection; another run of the destination's agent: FULL from the start
 */
import { linkLost } from '../../transfer/channel.ts'
import { decodeJson, decodeRoot, encodeJson, frameTypes } from '../../transfer/data-messages.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import type { BlockBitmap } from '../../transfer/block-bitmap.ts'
import { createCompression } from './compression.ts'
import { createCopySession, type CopySession } from './copy-session.ts'
import type { DataConnection } from './data-link.ts'
import { applyExclusion } from './exclusion.ts'
import { compareDisk, runsOf } from './full-comparison.ts'
import type { RoundMeter } from './round-meter.ts'
import type { SourceDisk } from './source-disk.ts'

/** Gives the living connection, or makes one. Throws TransferError LINK_LOST or PEER_REFUSED when there is no way for long. */
export type Connect = (signal: AbortSignal) => Promise<DataConnection>

export interface CopyOutcome {
  /** True when the whole disk was compared on the way. */
  compared: boolean
  /** Over what the destination re-read, after everything was flushed. */
  destinationRoot: Buffer
  barrierMs: number
}

/** A stopped round waits so long for what is under way; then the connection is given up. */
const stopWithinMs = 3000

/**
 * Copies until the destination holds all that the plan names: `disk.todo`, and the disk from `disk.scanFrom` on. Throws TransferError; whatever happens, what
 * is still to be done stays in `disk`, so that running it again goes on.
 */
export async function runCopy(disk: SourceDisk, connect: Connect, meter: RoundMeter, signal: AbortSignal): Promise<CopyOutcome> {
  for (;;) {
    let connection: DataConnection | null = null
    try {
      connection = await connect(signal)
      return await copyOver(connection, disk, meter, signal)
    } catch (error) {
      addTo(disk.todo, disk.unverified)
      // Leaves are lost, on one side or the other: going on where it was would fail in the same place for ever.
      if (error instanceof TransferError && error.code === 'VERIFICATION_FAILED' && error.retryable) disk.compareAnew()
      if (signal.aborted) throw stopped()
      if (!(connection && error instanceof TransferError && error.code === 'LINK_LOST')) throw error
    }
  }
}

async function copyOver(connection: DataConnection, disk: SourceDisk, meter: RoundMeter, signal: AbortSignal): Promise<CopyOutcome> {
  // A living connection is had without a look at the signal, and one that has aborted already calls nobody.
  if (signal.aborted) throw stopped()
  const { channel, agreement } = connection
  const session = createCopySession(disk, connection, meter, createCompression(agreement.compression === 'zstd'), signal)
  let timer: NodeJS.Timeout | undefined
  const giveUp = () => void (timer = setTimeout(() => channel.close(stopped()), stopWithinMs))
  signal.addEventListener('abort', giveUp)
  try {
    const { allZero } = await open(disk, session)
    if (disk.toExclude && agreement.minor < 1) throw cannotExclude()
    await sendUnverified(disk, session)
    await applyExclusion(disk, session.conversation)
    const compared = disk.scanFrom < disk.geometry.blockCount
    if (compared) {
      meter.totalBlocks = disk.geometry.blockCount - disk.excluded.count
      meter.scannedBlocks = disk.scanFrom
      await compareDisk(disk, session, allZero)
    }
    await copyTodo(disk, session, meter)
    const barrierFrom = performance.now()
    const destinationRoot = decodeRoot(await session.conversation.ask(frameTypes.barrier, Buffer.alloc(0), frameTypes.barrierDone))
    return { compared, destinationRoot, barrierMs: performance.now() - barrierFrom }
  } catch (error) {
    // Stopped: what is under way ends first, so that the data path is idle afterwards. A closed channel ends it too.
    if (signal.aborted) await session.allVerified().catch(() => {})
    // Answers to what is under way would be taken for answers to the next round, which counts its frames anew.
    else channel.close(linkLost('its round failed'))
    throw error
  } finally {
    signal.removeEventListener('abort', giveUp)
    clearTimeout(timer)
  }
}

function cannotExclude(): TransferError {
  return new TransferError('INCOMPATIBLE', "The destination's agent can't leave blocks out; install both agents from the same release.", {
    retryable: false,
  })
}

export function stopped(): TransferError {
  return new TransferError(
    'ROUND_STOPPED',
    'The round was stopped; what it copied stays, and it goes on where it was when it is run again.',
    { retryable: true },
  )
}

async function open(disk: SourceDisk, session: CopySession): Promise<{ allZero: boolean }> {
  const answer = decodeJson(
    await session.conversation.ask(frameTypes.open, encodeJson({ diskBytes: disk.geometry.diskBytes }), frameTypes.opened),
  )
  const { receiverId, allZero } = answer
  if (typeof receiverId !== 'string' || typeof allZero !== 'boolean') {
    throw new TransferError('PROTOCOL', 'The destination opened the round with a malformed message.', { retryable: true })
  }
  // Another run of the destination's agent may hold another disk's content: what was verified is not known any more.
  if (disk.receiverId !== receiverId) disk.compareAnew()
  disk.receiverId = receiverId
  return { allZero }
}

/**
 * Before any other subtree is looked at: leaves of these blocks may be ahead of the destination's, and are lost once the tree drops them. What the comparison has yet to
 * come to is left to it.
 */
async function sendUnverified(disk: SourceDisk, session: CopySession): Promise<void> {
  const { scanFrom, unverified } = disk
  for (let next = unverified.nextRun(0, 1); next && next.first < scanFrom; next = unverified.nextRun(0, 1)) {
    await session.copy(runsOf(disk, unverified, scanFrom), 'AS_IN_TREE')
    await session.allVerified()
  }
}

/** Until nothing is left: a block that the destination read back differently is in `todo` again. */
async function copyTodo(disk: SourceDisk, session: CopySession, meter: RoundMeter): Promise<void> {
  meter.totalBlocks = Math.max(meter.totalBlocks, meter.scannedBlocks + disk.todo.count)
  do {
    await session.copy(runsOf(disk), 'AS_IN_TREE')
    await session.allVerified()
  } while (disk.todo.count > 0)
}

function addTo(target: BlockBitmap, blocks: BlockBitmap): void {
  for (let run = blocks.nextRun(0, Number.MAX_SAFE_INTEGER); run; run = blocks.nextRun(run.first + run.count, Number.MAX_SAFE_INTEGER)) {
    target.set(run.first, run.count)
  }
}
