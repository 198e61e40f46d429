/** What SYNC and READY_TO_CUT_OVER do again and again: a round, and the question whether the rest fits into the permitted downtime. */
import { bandwidthLimitAt, isLooserWithinAWeek } from '../../domain/bandwidth-schedule.ts'
import { judgeConvergence } from '../../domain/convergence.ts'
import { estimatedRemainingMs, mayCutOver } from '../../domain/cutover-criterion.ts'
import { PortolanError } from '../../domain/errors.ts'
import type { RoundMode, RoundResult } from '../../transfer/control-protocol.ts'
import { joinAgents, type JoinedAgents } from '../agent-link.ts'
import { bandwidthScheduleOf } from '../bandwidth-keeper.ts'
import { failureOf } from '../failure.ts'
import type { MigrationRow } from '../migration-store.ts'
import type { PhaseContext } from '../phase.ts'
import { runRound } from '../round-run.ts'
import { isSourceOff } from '../source-off.ts'
import { wait } from '../wait.ts'
import { createLostAgents } from './lost-agents.ts'
import { resultOf } from './phase-facts.ts'
import { startTracking } from './track-changes.ts'

export interface SyncRounds {
  /** True when the cut-over may begin now. */
  next(): Promise<boolean>
}

/** A hold may last for days; what was long ago says nothing about now. */
const mostEstimates = 50

export function createSyncRounds(context: PhaseContext): SyncRounds {
  /** Since the last break: what was measured under another limit, or before changes piled up, says nothing about the rounds to come. */
  const remaining: number[] = []
  let limit: number | null | undefined
  /** Of those that failed one after the other; each waits longer than the one before. */
  let failures = 0
  let failingSince = 0
  const lostAgents = createLostAgents(context)
  let agents: JoinedAgents | null = null
  // After roots that differed nobody trusts what was tracked.
  let mode: RoundMode | null = context.results.COMPARE_ROOTS?.equal === false ? 'FULL' : null

  function beginHistoryAnew(): void {
    remaining.length = 0
  }

  async function joined(): Promise<JoinedAgents> {
    const source = await lostAgents.agent('SOURCE')
    const destination = await lostAgents.agent('DESTINATION')
    const known = agents?.link ?? resultOf(context, 'CONNECT_AGENTS')
    const sameSource = source.hello.agentInstanceId === known.sourceInstanceId
    const sameDestination = destination.hello.agentInstanceId === known.destinationInstanceId
    if (agents && sameSource && sameDestination) return agents
    if (!sameSource || !sameDestination) {
      mode = 'FULL'
      beginHistoryAnew()
      await context.note(`The agent in the ${sameSource ? 'destination' : 'source'} was started again: this round compares everything.`)
    }
    const next = await joinAgents(context, { destinationEmpty: false })
    if (!sameSource) await startTracking(context, next.source, next.link.disk)
    await context.keep('CONNECT_AGENTS', next.link)
    agents = next
    return next
  }

  async function round(): Promise<boolean> {
    const both = await joined()
    const schedule = bandwidthScheduleOf(context.migration)
    const limitNow = schedule ? bandwidthLimitAt(schedule, new Date()) : null
    if (limitNow !== limit) beginHistoryAnew()
    limit = limitNow
    const last = await context.store.lastRound(context.migration)
    const wanted = mode ?? (last === null ? 'FULL' : last.state === 'FAILED' ? last.mode : 'CHANGED')
    const result = await runRound(context, both, { mode: wanted }, context.signal)
    if (!result) return false
    mode = result.rescanNeeded ? 'FULL' : null
    const fixed = await context.settings.fixedDowntime(context.migration.destinationCloudId)
    const estimate = estimatedRemainingMs({ ...fixed, transferMs: result.estimatedTransferMs, verifyMs: result.estimatedVerifyMs })
    remaining.push(estimate)
    if (remaining.length > mostEstimates) remaining.shift()
    return judge(context, remaining, result)
  }

  async function recover(error: unknown): Promise<void> {
    const failure = failureOf(error)
    if (!failure.retryable || failure.code === 'NOT_CONVERGING') throw error
    if (failures++ === 0) failingSince = performance.now()
    const { lostMs, firstRetryMs, maxRetryMs } = context.settings.timings
    if (performance.now() - failingSince >= lostMs) throw lost(failure, lostMs)
    agents = null
    beginHistoryAnew()
    await context.store.write(context.migration, { patch: { problem: `${failure.message} It is tried again.` } })
    await wait(Math.min(firstRetryMs * 2 ** failures, maxRetryMs), context.signal)
  }

  return {
    async next() {
      if (await context.holdWhilePaused()) beginHistoryAnew()
      try {
        const ready = await round()
        failures = 0
        lostAgents.worked()
        return ready
      } catch (error) {
        context.signal.throwIfAborted()
        if (isSourceOff(error)) lostAgents.sourceWentOff()
        await recover(error)
        return false
      }
    },
  }
}

function lost({ code, message, remedy }: PortolanError, lostMs: number): PortolanError {
  return new PortolanError(code, `No round could be run for ${lostMs / 1000} s, so the migration is undone: ${message}`, {
    retryable: true,
    remedy,
  })
}

async function judge(context: PhaseContext, remaining: readonly number[], round: RoundResult): Promise<boolean> {
  const { permittedDowntimeMs, request, convergence: before } = await context.reread()
  const newest = remaining.at(-1)!
  const convergence = judgeConvergence(remaining, permittedDowntimeMs)
  const policy = request.nonConvergencePolicy ?? 'KEEP_SYNCING'
  const rates = ratesOf(round)
  const held = convergence === 'NOT_CONVERGING' && isHeldByWindow(context.migration)
  const turned = convergence === 'NOT_CONVERGING' && before !== convergence
  await context.store.write(context.migration, {
    patch: { estimatedRemainingMs: newest, convergence, ...measured(round) },
    events: turned
      ? [
          {
            kind: 'NOTICE',
            message: `The rounds don't get shorter: ${rates}; ${newest} ms are estimated to remain, and ${permittedDowntimeMs} ms are permitted. Policy: ${policy}${held ? ', once no window of the bandwidth limit holds the copy' : ''}.`,
          },
        ]
      : [],
  })
  if (mayCutOver(newest, permittedDowntimeMs)) return true
  if (convergence !== 'NOT_CONVERGING' || policy === 'KEEP_SYNCING' || held) return false
  if (policy === 'FORCE') return true
  throw new PortolanError(
    'NOT_CONVERGING',
    `${whyNotConverging(round)}: ${rates}; ${newest} ms are estimated to remain, and ${permittedDowntimeMs} ms are permitted.`,
    {
      retryable: true,
      remedy:
        'Calm the workload and retry the migration, or retry it with a longer downtime or the policy FORCE: `changes` of `retryMigration`, `permittedDowntimeMs` or `nonConvergencePolicy`.',
    },
  )
}

/** What takes the longest of a switchover may well be the boot and the health check, which no round makes shorter. */
function whyNotConverging({ rateBytesPerSecond, changeRateBytesPerSecond }: RoundResult): string {
  const copied = rateBytesPerSecond ?? Number.NaN
  const changed = changeRateBytesPerSecond ?? Number.NaN
  if (changed > copied) return 'The source changes faster than it can be copied'
  if (changed < copied)
    return 'The source is copied faster than it changes, but the permitted downtime is shorter than the switchover takes even so'
  return "The rounds don't get shorter"
}

/** Its operator's limit is what it waits for, and will be looser: no reason to give up, nor to force anything. */
function isHeldByWindow(migration: MigrationRow): boolean {
  const schedule = bandwidthScheduleOf(migration)
  return migration.bottleneck === 'BANDWIDTH_LIMIT' && schedule !== undefined && isLooserWithinAWeek(schedule, new Date())
}

/** A round too short to be watched has its rates all the same; what it couldn't measure stays as it was. */
function measured({ rateBytesPerSecond, changeRateBytesPerSecond }: RoundResult) {
  return {
    ...(rateBytesPerSecond && { rateBytesPerSecond }),
    ...(changeRateBytesPerSecond !== undefined && changeRateBytesPerSecond !== null && { changeRateBytesPerSecond }),
  }
}

function ratesOf({ rateBytesPerSecond, changeRateBytesPerSecond }: RoundResult): string {
  const perSecond = (rate: number | null | undefined) =>
    rate === null || rate === undefined ? 'an unknown rate' : `${Math.round(rate)} bytes a second`
  return `it changes at ${perSecond(changeRateBytesPerSecond)} and is copied at ${perSecond(rateBytesPerSecond)}`
}
