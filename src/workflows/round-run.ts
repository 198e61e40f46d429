/** One round of copying, watched: its progress goes to the database, coalesced; the operator's pause, a stall or an abort stops it, and the data path is idle afterwards. */
import { AgentError } from '../agent-gateway/agent-error.ts'
import type { AgentSession } from '../agent-gateway/agent-session.ts'
import type { BothAgents } from './agent-link.ts'
import { timeUntilReadyMs } from '../domain/progress-eta.ts'
import { createBandwidthKeeper } from './bandwidth-keeper.ts'
import type { RoundMode, RoundProgress, RoundResult } from '../transfer/control-protocol.ts'
import type { MigrationRow, RoundRow } from './migration-store.ts'
import type { PhaseContext } from './phase.ts'
import { isOff } from './phases/phase-facts.ts'
import { isSourceOff, sourceIsOff } from './source-off.ts'
import { wait } from './wait.ts'

/** At most ten times a second. */
const progressEveryMs = 100
/** Longer than any round; what ends one that hangs is its stall. */
const roundTimeoutMs = 2 ** 31 - 1
const stopTimeoutMs = 30_000

/**
 * Runs the next round, or joins the one that a control plane before us began. Null: it was stopped since the operator paused the migration. Throws AgentError, and
 * the signal's reason. `frozen`: the service stands still meanwhile, so a round that gets nowhere is not waited for as long as another one, and no limit of bandwidth
 * holds.
 */
export async function runRound(
  context: PhaseContext,
  { source, destination }: BothAgents,
  { mode, frozen = false }: { mode: RoundMode; frozen?: boolean },
  signal: AbortSignal,
): Promise<RoundResult | null> {
  const round = await beginRound(context, mode)
  const agents = await context.agents()
  const { timings } = context.settings
  const stop = new AbortController()
  let lastSign = performance.now()
  let lastMove = lastSign
  let lastMoveOrLimit = lastSign
  let movedBytes = 0
  let lookedUpFiles = 0
  const reporter = createReporter(context, round)
  const stopListening = agents.onProgress('SOURCE', (progress) => {
    lastSign = performance.now()
    if (progress.round !== round.round) return
    const { scannedBytes, verifiedBytes, rateBytesPerSecond, bottleneck } = progress
    // Before a round moves, the source looks up what is to be left out.
    if (scannedBytes + verifiedBytes !== movedBytes || (progress.lookedUpFiles ?? 0) !== lookedUpFiles) lastMove = lastSign
    movedBytes = scannedBytes + verifiedBytes
    lookedUpFiles = progress.lookedUpFiles ?? 0
    // Blocks that were read twice fill `scannedBytes` before the disk's end: from there on only the rate tells of unchanged ones.
    const moves = lastMove === lastSign || rateBytesPerSecond > 0
    // Before a round moves, the destination may read the whole of a kept disk.
    if (moves || movedBytes === 0 || bottleneck === 'BANDWIDTH_LIMIT') lastMoveOrLimit = lastSign
    // Judged by reports, not by the clock: a control plane that itself stood still first hears what moved meanwhile.
    if (lastSign - lastMoveOrLimit > timings.standstillMs) stop.abort(stalled(round.round, timings.standstillMs))
    reporter.report(progress)
  })
  const watch = setInterval(() => {
    if (performance.now() - lastSign > timings.stallMs) stop.abort(stalled(round.round, timings.stallMs))
    if (frozen && performance.now() - lastMove > timings.frozenStallMs) stop.abort(stalled(round.round, timings.frozenStallMs))
  }, timings.pollMs)
  // The source would try for a minute to reach the one that is gone.
  const stopHearing = destination.onClosed((reason) => stop.abort(reason))
  // Its last connection may look alive for a while, and is waited for after that.
  const powerWatch = setInterval(() => {
    if (performance.now() - lastSign < timings.powerLookMs) return
    isOff(context, 'SOURCE').then(
      (off) => off && stop.abort(sourceIsOff()),
      () => {},
    )
  }, timings.powerLookMs)
  const bandwidth = createBandwidthKeeper(source, { frozen })
  const stopWatching = watchRow(context, (row) => {
    if (row.desired === 'PAUSE' && (row.phase === 'SYNC' || row.phase === 'READY_TO_CUT_OVER')) stop.abort(paused)
    return bandwidth.apply(row)
  })
  try {
    await bandwidth.apply(await context.store.read(context.migration.id))
    const result = await source.request(
      'round.run',
      { round: round.round, mode: round.mode },
      { signal: AbortSignal.any([signal, stop.signal]), timeoutMs: roundTimeoutMs },
    )
    await reporter.end(result)
    return result
  } catch (error) {
    if (!isSourceOff(stop.signal.reason)) await stopInGuest(source)
    await reporter.failed()
    signal.throwIfAborted()
    if (stop.signal.reason === paused) return null
    throw stop.signal.aborted ? stop.signal.reason : error
  } finally {
    clearInterval(watch)
    clearInterval(powerWatch)
    stopWatching()
    stopListening()
    stopHearing()
  }
}

const paused = Symbol('paused')

/** Whether the copy is whole after a round under a freeze. One that looked at every block needs no tracking for that. */
export function leavesNothing({ pendingBytes, rescanNeeded, mode }: RoundResult): boolean {
  return pendingBytes === 0 && (!rescanNeeded || mode === 'FULL')
}

async function beginRound(context: PhaseContext, mode: RoundMode): Promise<RoundRow> {
  const { migration, store } = context
  const last = await store.lastRound(migration)
  // Under the same number it is joined where it still runs, and answered where it ended meanwhile.
  if (last?.state === 'RUNNING') return last
  const round: RoundRow = {
    migrationId: migration.id,
    attempt: migration.attempt,
    round: (last?.round ?? 0) + 1,
    mode,
    state: 'RUNNING',
    scannedBytes: 0,
    totalBytes: 0,
    changedBytes: 0,
    bytesSent: 0,
    verifiedBytes: 0,
    durationMs: null,
    startedAt: new Date(),
  }
  await store.write(migration, { round })
  return round
}

/**
 * Nothing may go on writing at the destination once we turn to something else. An agent that only its control link has left copies on: it is told once it dials in again,
 * before whatever it is asked later, so that no other round is stopped.
 */
async function stopInGuest(source: AgentSession): Promise<void> {
  const stopped = source.request('round.stop', {}, { timeoutMs: roundTimeoutMs }).catch(() => {})
  if (!source.connected) return
  const waited = new AbortController()
  await Promise.race([stopped, wait(stopTimeoutMs, waited.signal).catch(() => {})])
  waited.abort()
}

function createReporter(context: PhaseContext, round: RoundRow) {
  const { store, migration, settings } = context
  let row = round
  let latest: RoundProgress | null = null
  let timer: NodeJS.Timeout | null = null
  let writing: Promise<void> = Promise.resolve()
  let ended = false
  const sentBefore = store.bytesSent(migration).then((all) => all - round.bytesSent)
  sentBefore.catch(() => {})
  // What of the permitted downtime sending may take. A guess too short or too long only makes the ETA worse.
  const permittedTransferMs = settings.fixedDowntime(migration.destinationCloudId).then(
    ({ freezeMs, bootMs, healthMs }) => migration.permittedDowntimeMs - freezeMs - bootMs - healthMs,
    () => migration.permittedDowntimeMs,
  )

  async function write(progress: RoundProgress): Promise<void> {
    const { scannedBytes, totalBytes, changedBytes, bytesSent, verifiedBytes, rateBytesPerSecond, bottleneck } = progress
    const { changeRateBytesPerSecond } = progress
    const leftBytes = totalBytes - scannedBytes
    const etaMs = timeUntilReadyMs({
      leftBytes,
      rateBytesPerSecond,
      changeRateBytesPerSecond,
      permittedTransferMs: await permittedTransferMs,
    })
    row = { ...row, scannedBytes, totalBytes, changedBytes, bytesSent, verifiedBytes }
    await store.write(migration, {
      round: row,
      patch: { bytesSent: (await sentBefore) + bytesSent, rateBytesPerSecond, changeRateBytesPerSecond, etaMs, bottleneck },
    })
  }

  /** What is told from now on would be written over the round's end. */
  async function flush(): Promise<void> {
    ended = true
    if (timer) clearTimeout(timer)
    timer = null
    await writing
  }

  return {
    report(progress: RoundProgress) {
      if (ended) return
      latest = progress
      timer ??= setTimeout(() => {
        timer = null
        const newest = latest
        // Progress that can't be written now is followed by more; the round's end is written for sure.
        if (newest) writing = writing.then(() => write(newest)).catch(() => {})
      }, progressEveryMs)
    },
    async end({ changedBytes, bytesSent, verifiedBytes, durationMs, mode, excludedBytes }: RoundResult) {
      await flush()
      row = {
        ...row,
        mode,
        state: 'DONE',
        changedBytes,
        bytesSent,
        verifiedBytes,
        durationMs,
        scannedBytes: Math.max(row.scannedBytes, row.totalBytes),
      }
      await store.write(migration, {
        round: row,
        patch: { bytesSent: (await sentBefore) + bytesSent, problem: null },
        events: [
          {
            kind: 'ROUND_ENDED',
            message: `Round ${row.round} (${mode}) found ${changedBytes} bytes changed, and sent ${bytesSent}.${excludedBytes ? ` ${excludedBytes} bytes of excluded directories were left out.` : ''}`,
          },
        ],
      })
    },
    async failed() {
      await flush()
      await store.write(migration, { round: { ...row, state: 'FAILED', durationMs: Date.now() - row.startedAt.getTime() } })
    },
  }
}

/** Looks at what the operator wishes; calls don't overlap. */
function watchRow(context: PhaseContext, look: (row: MigrationRow) => Promise<void>): () => void {
  const { store, migration, settings } = context
  let looking = false
  const timer = setInterval(() => {
    if (looking) return
    looking = true
    store
      .read(migration.id)
      .then(look)
      // The next look tries again.
      .catch(() => {})
      .finally(() => (looking = false))
  }, settings.timings.pollMs)
  return () => clearInterval(timer)
}

function stalled(round: number, stallMs: number): AgentError {
  return new AgentError('TIMED_OUT', `Round ${round} made no progress for ${stallMs / 1000} s and was stopped.`, { retryable: true })
}
