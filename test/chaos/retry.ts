/** The second attempt of a migration that failed: it must complete, and must not copy again what is there. */
import { randomUUID } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { artifacts } from '../../setup/artifacts.ts'
import { blockBytes, differingBlocks } from '../support/compare-disks.ts'
import { inGuest } from '../support/in-guest.ts'
import { diskImage, hasEnded, type ScenarioMigration } from '../support/scenario-site.ts'
import * as documents from './campaign-documents.ts'
import { checkCopies, verdictOf } from './checks.ts'
import { copyAt } from './copies.ts'
import { leastKeptBytes, recopiedShare, untouchedBlocks } from './kept-copy.ts'
import { greatestRecopiedShare, type RunResult } from './result.ts'
import type { Stage } from './stage.ts'

const roundsDocument = `query Rounds($id: ID!) { migration(id: $id) { copyKept rounds(first: 100) { nodes { mode state verifiedBytes changedBytes } } } }`

interface Rounds {
  copyKept: boolean
  rounds: { nodes: { mode: 'FULL' | 'CHANGED'; state: string; verifiedBytes: number | string; changedBytes: number | string }[] }
}

export async function retryUntilCompleted(stage: Stage, id: string, timeoutMs: number, result: RunResult): Promise<void> {
  const { scenario } = stage
  const earlier = await read(stage, id)
  const verifiedBytes = Math.max(0, ...fullRounds(earlier).map((round) => Number(round.verifiedBytes)))
  const measured = verifiedBytes >= worthMeasuringBytes
  if (measured && !earlier.copyKept) return unresolved(`${verifiedBytes} verified bytes were not kept.`)
  if (measured) await holdWriters(stage)
  const whole = wasWhole(earlier)
  const kept = measured ? await lookAtCopy(stage, whole) : null
  if (kept && kept.allocatedBytes < leastKeptBytes(verifiedBytes, whole))
    return unresolved(`Of ${verifiedBytes} verified bytes at most ${kept.allocatedBytes} are at the destination.`)
  const { retryMigration } = await scenario.api().run<{ retryMigration: { code?: string; message?: string } }>(documents.retry, {
    input: { idempotencyKey: randomUUID(), migrationId: id },
  })
  if (retryMigration.code) return unresolved(`The retry was refused: ${retryMigration.message}`)
  let ended: ScenarioMigration
  try {
    await scenario.until(id, (present) => hasEnded(present) || present.rounds.nodes.some(({ state }) => state !== 'RUNNING'), timeoutMs)
    if (measured) await releaseWriters(stage)
    ended = await scenario.until(id, hasEnded, timeoutMs)
  } catch (error) {
    return unresolved(`The retry does not end: ${String(error)}`)
  }
  if (ended.state !== 'COMPLETED') return unresolved(`The retry is ${ended.state}: ${ended.error?.message}`)
  if (kept) noteShare(recopiedShare({ verifiedBytes, changedBytes: changedBytesOf(await read(stage, id)), ...kept }))
  const verdict = await verdictOf(stage, id)
  if (verdict !== 'MIGRATED') {
    result.wrongVerdicts++
    result.findings.push(`The verdict of the completed retry is ${verdict}.`)
  }
  await checkCopies(scenario, true, timeoutMs, result)

  function noteShare(share: number): void {
    result.recopiedShare = share
    if (share > greatestRecopiedShare) result.findings.push(`The retry copied ${(share * 100).toFixed(1)} % of the verified blocks again.`)
  }

  function unresolved(finding: string): void {
    result.unresolved++
    result.findings.push(finding)
  }
}

async function read(stage: Stage, id: string): Promise<Rounds> {
  return (await stage.scenario.api().run<{ migration: Rounds }>(roundsDocument, { id })).migration
}

/** Those over whole disks, each of which verifies a block once: others send what has changed, which nobody could spare. */
function fullRounds({ rounds }: Rounds): Rounds['rounds']['nodes'] {
  return rounds.nodes.filter(({ mode }) => mode === 'FULL')
}

function changedBytesOf(rounds: Rounds): number {
  return fullRounds(rounds).reduce((sum, round) => sum + Number(round.changedBytes), 0)
}

/** Neither clients nor the workload itself write while the two disks are compared and compared again by the retry's first round, or their blocks would count as sent again. */
async function holdWriters({ scenario }: Stage): Promise<void> {
  scenario.records.moveTo(nowhere)
  await inGuest(scenario.source, scenario.vm.vmId, `${signalWorkload('STOP')} && sync`)
}

/** A guest that is frozen or off by then needs it no more: its copy is another one, which boots. */
async function releaseWriters({ scenario }: Stage): Promise<void> {
  await inGuest(scenario.source, scenario.vm.vmId, signalWorkload('CONT'), releasedWithinMs).catch(() => {})
  scenario.records.moveTo(scenario.vm.workload)
}

function signalWorkload(signal: 'STOP' | 'CONT'): string {
  return `ls -l /proc/[0-9]*/exe 2>/dev/null | while read -r link; do
    case $link in *" -> "*/python3*) link=\${link#*/proc/}; kill -${signal} "\${link%%/*}";; esac
  done`
}

const releasedWithinMs = 20_000
const nowhere = { host: '127.0.0.1', port: 9 }
/** Of less, what the guest writes by itself in a minute is a large share. */
const worthMeasuringBytes = 16 * 1024 ** 2

/** Whether a round over the whole disk came to its end: from then on the copy had everything once. */
function wasWhole({ rounds }: Rounds): boolean {
  return rounds.nodes.some(({ mode, state }) => mode === 'FULL' && state === 'DONE')
}

/**
 * By a look at both disk images from outside, just before the retry: what has to be sent in any case, what of it was there once and nobody has written since, and what takes
 * room in the copy. Of a copy that never was whole nobody can tell which blocks it lacks.
 */
async function lookAtCopy(
  { scenario }: Stage,
  whole: boolean,
): Promise<{ differingBytes: number; lostBytes: number; allocatedBytes: number }> {
  const { source, destination, vm } = scenario
  const copy = await copyAt(destination, vm.uniqueId)
  if (!copy) throw new Error('The copy that the migration keeps is not at the destination.')
  const image = await diskImage(destination, copy.id)
  const sourceImage = await diskImage(source, vm.vmId)
  const differing = await differingBlocks(sourceImage, image)
  const lost = whole ? await untouchedBlocks(differing, sourceImage, artifacts().tinyImage) : 0
  return {
    differingBytes: differing.length * blockBytes,
    lostBytes: lost * blockBytes,
    allocatedBytes: (await stat(image)).blocks * 512,
  }
}
