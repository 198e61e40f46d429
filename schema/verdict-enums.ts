import type { SafeAction } from '../src/domain/verdict-actions.ts'
import type { Verdict, VerdictRow } from '../src/domain/verdict.ts'
import type { Evidence } from '../src/workflows/verdict-evidence.ts'
import { describedEnum } from './described-enum.ts'

export const VerdictEnum = describedEnum<Verdict>('Verdict', 'Whether a virtual machine has been moved.', {
  MIGRATED: 'The destination has taken over: it stays, and a source that returns is fenced.',
  NOT_MIGRATED: 'The source is the one that lives; what is at the destination is a copy.',
  UNKNOWN: "The destination's records could not be read, which is no answer: nothing is started anywhere.",
})

export const VerdictRowEnum = describedEnum<VerdictRow>('VerdictRow', 'The row of the table that decided a verdict.', {
  NOT_STARTED: 'There is no started record: not migrated.',
  COMPLETED: 'There are a started and a completed record: migrated.',
  NO_PLACEHOLDER: 'There are a started record and no completed one, and no placeholder with its unique id: not migrated.',
  NO_COMPLETED_EVENT: 'There are a started record and a placeholder, and neither a completed record nor a completed event: not migrated.',
  COMPLETED_EVENT: 'There are a started record, a placeholder and its completed event, though no completed record: migrated.',
  ROLLED_BACK: 'It was migrated and then rolled back: not migrated.',
  UNREADABLE: 'The records could not be read: unknown.',
})

export const SafeActionEnum = describedEnum<SafeAction>(
  'SafeAction',
  'What may be done now. `reconcileMigrations` does what can be done by itself.',
  {
    NONE: 'Nothing is to be done, or nothing that could be called safe.',
    LET_MIGRATION_RUN: 'Its own workflow runs, and does what is safe.',
    LET_SOURCE_RUN: 'The source runs and is the live copy.',
    ABANDON: 'Record at the destination that the attempt can not be committed any more. Before that nothing else is safe.',
    STOP_DESTINATION: "Power the destination's machine off, and keep it.",
    RECORD_ROLLBACK: 'End the rollback that had begun: record that the destination is fenced for good. The source goes on after that.',
    RELEASE_FENCE: "Take the attempt's fence off the source.",
    RESUME_SOURCE: 'Resume the suspended source.',
    START_SOURCE:
      'Start the source, which is off. `reconcileMigrations` does it where it lost its power under its fence; without a fence its owner may have stopped it.',
    FENCE_SOURCE: 'Fence the source, so that it can not run beside its successor. Before that nothing else is safe.',
    START_DESTINATION: 'Start the destination from its own disk.',
    RESUME_DESTINATION: 'Resume the destination, which its hypervisor holds, as it does when a write finds no room.',
    EXPOSE_DESTINATION: 'Put the destination on its networks.',
    COMPLETE_RECORDS: 'Record the completion at the destination.',
    RETIRE_SOURCE: 'Power the fenced source off, and keep it.',
    RETRY: 'Start another attempt with `retryMigration`.',
    DISCARD: 'Delete the kept copy with `discardMigration`.',
    WAIT_FOR_SOURCE: "Wait until the source's site answers.",
    WAIT_FOR_DESTINATION: "Wait until the destination's site answers.",
    ATTEST_SOURCE: 'Say with `attestSourceDead` that the source is dead and stays so, where that is known for certain.',
  },
)

export const EvidenceKind = describedEnum<Evidence['kind']>('EvidenceKind', 'What was looked for.', {
  STARTED_RECORD: 'The record that an attempt began, written before anything was made.',
  PLACEHOLDER_RECORD: "The record of the destination's machine with the source's unique id.",
  COMPLETED_EVENT: 'The commit: the record that this machine took over, written before its first live instruction.',
  COMPLETED_RECORD: 'The record that it was exposed.',
  ROLLBACK_RECORD: 'The record that it was rolled back.',
  DESTINATION_MACHINE: "The destination's machine.",
  DESTINATION_FENCE: "A fence of this attempt on the destination's machine, as a rollback leaves it.",
  SOURCE_MACHINE: "The source's machine.",
  SOURCE_FENCE: 'The fence of this attempt on the source.',
})

export const EvidenceFound = describedEnum<Evidence['found']>('EvidenceFound', 'Whether it was there.', {
  YES: 'It was read.',
  NO: 'It was looked for, the site answered, and it was not there.',
  UNREADABLE: 'The site did not answer, so nobody knows.',
})

export const EvidenceSite = describedEnum<Evidence['site']>('EvidenceSite', 'Where it was looked for.', {
  SOURCE: 'At the site that the machine leaves. It never decides the verdict.',
  DESTINATION: 'At the site that the machine goes to, which alone decides the verdict.',
})
