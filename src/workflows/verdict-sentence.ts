import type { Verdict, VerdictRow } from '../domain/verdict.ts'
import type { VerdictStanding } from '../domain/verdict-actions.ts'
import type { MigrationRow } from './migration-store.ts'

const because: Record<VerdictRow, string> = {
  NOT_STARTED: 'the destination has no record that it was started',
  COMPLETED: 'the destination has the record of its completion',
  NO_PLACEHOLDER: 'the destination recorded its start, and no machine of its unique id',
  NO_COMPLETED_EVENT: 'the destination has a machine of its unique id, and no completed event for it',
  COMPLETED_EVENT: 'the destination has a machine of its unique id and the completed event for it',
  ROLLED_BACK: 'it was moved and then rolled back, as the destination has recorded',
  UNREADABLE: "the destination's records could not be read",
}

const says: Record<Verdict, string> = {
  MIGRATED: 'It has been moved',
  NOT_MIGRATED: 'It has not been moved',
  UNKNOWN: 'Nobody knows whether it has been moved',
}

/** `running`: the migration that is at work on the machine. */
export function verdictSentence(
  standing: VerdictStanding,
  running: Pick<MigrationRow, 'phase' | 'problem' | 'rollsBackMigrationId'> | undefined,
): string {
  const sentence = `${says[standing.verdict]}, since ${because[standing.row]}.`
  if (running) {
    const workflow = running.rollsBackMigrationId === null ? 'Its own workflow' : 'The workflow that carries writes back'
    return `${sentence} ${workflow} is at ${running.phase} and goes on by itself${running.problem ? `; it is WAITING: ${running.problem}` : '.'}`
  }
  if (standing.verdict === 'UNKNOWN') return `${sentence} Nothing is started meanwhile.`
  if (standing.disputed && standing.siteUnread)
    return `${sentence} Other records of the same machine came after these or contradict them, and not every connected cloud could be asked what became of it, so nothing is done until they answer.`
  if (standing.disputed)
    return `${sentence} Other records of the same machine came after these or contradict them, so nothing is done by them: see the verdicts of its other migrations.`
  if (standing.verdict === 'NOT_MIGRATED' && standing.source.power === 'SUSPENDED' && standing.source.fence === 'NONE')
    return `${sentence} Its source is suspended without a fence: the attempt may have left it so, or somebody may have wanted it.`
  return sentence
}
