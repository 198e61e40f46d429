import type { DemoMigration } from './demo-migration.ts'

const mebibytes = (bytes: number) => `${(bytes / 1_048_576).toFixed(1)} MiB`
const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`

/** One line on where the migration is: phase, round, share, rate, ETA, bottleneck. */
export function progressLine(migration: DemoMigration): string {
  const round = migration.currentRound
  const parts = [
    migration.phase.toLowerCase().replaceAll('_', ' '),
    round && `round ${round.round}`,
    round && Number(round.totalBytes) > 0 && `${((100 * Number(round.scannedBytes)) / Number(round.totalBytes)).toFixed(0)} %`,
    `${mebibytes(Number(migration.bytesSent))} sent`,
    migration.rateBytesPerSecond && `${mebibytes(migration.rateBytesPerSecond)}/s`,
    migration.etaMs !== null && `ETA ${seconds(migration.etaMs)}`,
    migration.bottleneck && `held by ${migration.bottleneck.toLowerCase().replaceAll('_', ' ')}`,
  ]
  return parts.filter(Boolean).join(' · ')
}

export interface DemoResult {
  verified: boolean
  sourceProvider: string
  destinationProvider: string
  diskBytes: number
  bytesSent: number
  rounds: { round: number; changedBytes: number; bytesSent: number; durationMs: number }[]
  downtimeMs: number
  downtime: { freezeMs: number; transferMs: number; verifyMs: number; bootMs: number; healthMs: number }
  recordsAcknowledged: number
  recordsFound: number
  durationMs: number
}

/** What a person wants to read at the end. */
export function summary(result: DemoResult): string {
  const { downtime } = result
  return `
  The VM moved from ${result.sourceProvider} to ${result.destinationProvider} in ${seconds(result.durationMs)}.

  verified     ${result.verified ? 'yes: both disks have the same root, and every acknowledged record is there' : 'NO'}
  records      ${result.recordsFound} of ${result.recordsAcknowledged} acknowledged ones found intact at the destination
  copied       ${mebibytes(result.bytesSent)} on the wire for a disk of ${mebibytes(result.diskBytes)}
  rounds       ${result.rounds.map(({ round, changedBytes, durationMs }) => `#${round} ${mebibytes(changedBytes)} changed, ${seconds(durationMs)}`).join('\n               ')}
  downtime     ${seconds(result.downtimeMs)}: freeze ${seconds(downtime.freezeMs)}, transfer ${seconds(downtime.transferMs)}, verify ${seconds(downtime.verifyMs)}, boot ${seconds(downtime.bootMs)}, health ${seconds(downtime.healthMs)}
`
}
