/** What was read at each site, for people: one entry for each thing that was looked for, found or not. */
import { recordKey, type RecordKind } from '../domain/migration-record.ts'
import { isOfMachine, type SiteAttempt } from './verdict-records.ts'
import type { LocatedMachine } from './verdict-machines.ts'
import type { SiteReading } from './verdict-sites.ts'

export const evidenceKinds = [
  'STARTED_RECORD',
  'PLACEHOLDER_RECORD',
  'COMPLETED_EVENT',
  'COMPLETED_RECORD',
  'ROLLBACK_RECORD',
  'DESTINATION_MACHINE',
  'DESTINATION_FENCE',
  'SOURCE_MACHINE',
  'SOURCE_FENCE',
] as const

export interface Evidence {
  site: 'SOURCE' | 'DESTINATION'
  /** Null where it isn't known which cloud it is. */
  cloudId: string | null
  kind: (typeof evidenceKinds)[number]
  /** The record's key, the machine's id at its provider, or the fence's id. */
  key: string
  found: 'YES' | 'NO' | 'UNREADABLE'
  message: string
  readAt: Date
}

type Judged = Pick<SiteAttempt, 'migrationId' | 'attempt' | 'uniqueId' | 'found'>

const lookedFor: readonly { kind: Evidence['kind']; record: RecordKind; found: string; missing: string }[] = [
  {
    kind: 'STARTED_RECORD',
    record: 'started',
    found: 'The attempt was recorded before anything was made.',
    missing: 'No attempt was recorded here.',
  },
  {
    kind: 'PLACEHOLDER_RECORD',
    record: 'placeholder',
    found: "A machine with the source's unique id was made.",
    missing: "No machine with the source's unique id was recorded.",
  },
  {
    kind: 'COMPLETED_EVENT',
    record: 'outcome',
    found: 'COMMITTED: the copy took over before its first live instruction.',
    missing: 'No copy took over.',
  },
  { kind: 'COMPLETED_RECORD', record: 'completed', found: 'The copy was exposed.', missing: 'No exposure was recorded.' },
  {
    kind: 'ROLLBACK_RECORD',
    record: 'rolled-back',
    found: 'The copy was stopped for good, and the source lives again.',
    missing: 'It was not rolled back.',
  },
]

export function recordEvidence(site: Pick<SiteReading, 'cloudId' | 'readAt' | 'records'>, judged: Judged): Evidence[] {
  const { migrationId, attempt, uniqueId, found } = judged
  return lookedFor.map(({ kind, record: recordKind, found: yes, missing }): Evidence => {
    const key = recordKey({ migrationId, attempt, kind: recordKind })
    const where = { site: 'DESTINATION', cloudId: site.cloudId, kind, key, readAt: site.readAt } as const
    if (site.records.problem !== null) return { ...where, found: 'UNREADABLE', message: site.records.problem }
    const record = found[recordKind]
    if (!record) return { ...where, found: 'NO', message: missing }
    if (record.content['decision'] === 'ABANDONED')
      return { ...where, found: 'NO', message: 'ABANDONED: the attempt was given up, and can not be committed any more.' }
    if (!isOfMachine(record, uniqueId))
      return { ...where, found: 'NO', message: 'The record is there, and names a machine of another unique id.' }
    return { ...where, found: 'YES', message: `${yes} Written ${record.writtenAt}.` }
  })
}

/** Of a copy and its fence. `fenceId` is this attempt's. */
export function machineEvidence(site: Evidence['site'], machine: LocatedMachine, uniqueId: string | null, fenceId: string): Evidence[] {
  const { cloudId, vm, standing, readAt } = machine
  const where = { site, cloudId, readAt } as const
  const entry: Evidence = {
    ...where,
    kind: `${site}_MACHINE`,
    key: vm?.id ?? uniqueId ?? '',
    found: vm && standing.power !== 'ABSENT' ? 'YES' : standing.power === 'ABSENT' ? 'NO' : 'UNREADABLE',
    message: machine.message,
  }
  if (!machine.fence) return [entry]
  const { fence, message, readAt: fenceReadAt } = machine.fence
  const found = fence === 'UNKNOWN' ? 'UNREADABLE' : fence === 'ARMED' || fence === 'FENCED' ? 'YES' : 'NO'
  return [entry, { ...where, kind: `${site}_FENCE`, key: fenceId, found, message, readAt: fenceReadAt }]
}
