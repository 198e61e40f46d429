/**
 * The verdict for each virtual machine after a fault (requirements D): what the destination's site holds decides, what the source's site says only tells what is safe
 * to do. Reads, and changes nothing anywhere; a site that is gone costs its time-out once.
 */
import { and, eq, gte, ne } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { attestations } from '../database/tables/attestation.ts'
import { clouds } from '../database/tables/cloud.ts'
import { migrations } from '../database/tables/migration.ts'
import { reconciliations } from '../database/tables/reconciliation.ts'
import { attemptFenceId } from '../domain/fence-id.ts'
import { isEnded } from '../domain/operator-actions.ts'
import { decideVerdict, decidingAttempt } from '../domain/verdict.ts'
import { safeActions, type SafeAction, type VerdictStanding } from '../domain/verdict-actions.ts'
import type { CloudConnections } from './cloud-connections.ts'
import type { MigrationRow } from './migration-store.ts'
import { providerIdOf } from './row-ids.ts'
import { machineEvidence, recordEvidence, type Evidence } from './verdict-evidence.ts'
import { findDestination, findSource, withFence, type LocatedMachine } from './verdict-machines.ts'
import { verdictSentence } from './verdict-sentence.ts'
import { attemptsIn, type SiteAttempt } from './verdict-records.ts'
import { inParallel, readSites, type SiteReading } from './verdict-sites.ts'
import {
  isSameSite,
  ownMigrations,
  subjectsOf,
  type OwnMigration,
  type ReadSite,
  type Subject,
  type VerdictQuestion,
} from './verdict-subjects.ts'

export interface MachineVerdict {
  migrationId: string
  attempt: number
  uniqueId: string | null
  name: string | null
  standing: VerdictStanding
  /** One sentence. */
  message: string
  safeActions: SafeAction[]
  /** Its destination is a machine that an earlier migration had left. */
  carriesBack: boolean
  evidence: Evidence[]
  source: LocatedMachine
  destination: LocatedMachine
  readAt: Date
}

export interface VerdictReader {
  /** @throws PortolanError NOT_FOUND for a migration or cloud that nobody knows, CLOUD_UNREACHABLE where nothing at all is known. */
  read(question: VerdictQuestion, signal: AbortSignal): Promise<MachineVerdict[]>
}

/** For one call to one site. */
const siteTimeoutMs = 10_000

export function createVerdictReader(dependencies: {
  database: Database
  connections: Pick<CloudConnections, 'connection'>
  timeoutMs?: number
}): VerdictReader {
  const { database, connections, timeoutMs = siteTimeoutMs } = dependencies

  async function judge(subject: Subject, sites: Map<string, ReadSite>, own: OwnMigration[], signal: AbortSignal): Promise<MachineVerdict> {
    const site = (subject.siteCloudId && sites.get(subject.siteCloudId)) || unconnected(subject.siteCloudId)
    const elsewhere = [...sites.values()].filter((other) => other !== site && !isSameSite(other, site))
    const { judged, disputed } = attemptFor(subject, site, elsewhere, own)
    const row = (await database.select().from(migrations).where(eq(migrations.id, judged.migrationId)))[0]
    const running = row && (await runningFor(row))
    const decided = decideVerdict(site.records.problem === null ? judged.records : null)
    const of = { id: judged.migrationId, attempt: judged.attempt }
    const fenceId = attemptFenceId(of)
    const named = row?.sourceCloudId ?? judged.sourceCloudId
    const known = named !== null && sites.has(named) ? named : null
    const whereSource = row && known === null ? await connectedSince(row.createdAt, elsewhere) : elsewhere
    const limits = { signal, timeoutMs }
    const [source, destination] = await Promise.all([
      withFence(findSource(known, whereSource, judged, new Date()), of, limits),
      withFence(findDestination(site, judged), of, limits),
    ])
    const standing: VerdictStanding = {
      ...decided,
      outcome: judged.records.outcome,
      disputed: disputed || destination.replaced === true,
      siteUnread: elsewhere.some(isUnread),
      source: source.standing,
      destination: destination.standing,
      ...(await whatWeKnow(judged)),
      workflowRuns: running !== undefined,
      known: row !== undefined,
    }
    return {
      migrationId: judged.migrationId,
      attempt: judged.attempt,
      uniqueId: judged.uniqueId,
      name: destination.vm?.name ?? source.vm?.name ?? own.find((ours) => ours.row.id === judged.migrationId)?.machine?.name ?? null,
      standing,
      message: verdictSentence(standing, running),
      carriesBack: judged.rollsBack !== null,
      safeActions: safeActions(standing),
      evidence: [
        ...recordEvidence(site, judged),
        ...machineEvidence('DESTINATION', destination, judged.uniqueId, fenceId),
        ...machineEvidence('SOURCE', source, judged.uniqueId, fenceId),
      ],
      source,
      destination,
      readAt: site.readAt,
    }
  }

  /** The source's cloud may be connected again under another id. What was connected before the migration began is another cloud, and may hold a copy of the machine. */
  async function connectedSince(begin: Date, sites: ReadSite[]): Promise<ReadSite[]> {
    const since = await database.select({ id: clouds.id }).from(clouds).where(gte(clouds.connectedAt, begin))
    return sites.filter(({ cloudId }) => since.some(({ id }) => id === cloudId))
  }

  /** The migration that is at work on the machine: itself, or the one that carries its writes back. */
  async function runningFor(row: MigrationRow): Promise<MigrationRow | undefined> {
    if (!isEnded(row.state)) return row
    const carrying = await database.select().from(migrations).where(eq(migrations.rollsBackMigrationId, row.id))
    return carrying.find(({ state }) => !isEnded(state))
  }

  async function whatWeKnow({ migrationId, attempt, uniqueId }: SiteAttempt) {
    if (uniqueId === null) return { sourceAttestedDead: false, startOwed: false }
    const of = (table: typeof attestations | typeof reconciliations) =>
      and(eq(table.migrationId, migrationId), eq(table.attempt, attempt), eq(table.uniqueId, uniqueId))
    const [attested] = await database.select({ id: attestations.id }).from(attestations).where(of(attestations))
    const [owed] = await database
      .select({ id: reconciliations.id })
      .from(reconciliations)
      .where(and(of(reconciliations), eq(reconciliations.startOwed, true)))
    return { sourceAttestedDead: attested !== undefined, startOwed: owed !== undefined }
  }

  return {
    async read(question, signal) {
      const connected = await database.select({ id: clouds.id }).from(clouds).where(ne(clouds.state, 'DISCONNECTED'))
      const own = await ownMigrations(database, question)
      const readings = await readSites(
        connections,
        connected.map(({ id }) => id),
        { signal, timeoutMs },
      )
      const sites = new Map([...readings].map(([id, reading]) => [id, { ...reading, attempts: attemptsIn(reading.records.value ?? []) }]))
      return inParallel(subjectsOf(question, own, sites), (subject) => judge(subject, sites, own, signal))
    },
  }
}

function unconnected(cloudId: string | null): ReadSite {
  const problem =
    cloudId === null ? 'Not every connected cloud could be asked for its records.' : 'The cloud of the destination is not connected.'
  const read: SiteReading['records'] & SiteReading['machines'] = { value: null, problem }
  return { cloudId: cloudId ?? '', readAt: new Date(), connection: null, records: read, machines: read, attempts: [] }
}

/** The attempt that decides; where the site has none, or can't be read, what our own row says of it. */
function attemptFor(
  { uniqueId, migrationId }: Subject,
  site: ReadSite,
  elsewhere: ReadSite[],
  own: OwnMigration[],
): { judged: SiteAttempt; disputed: boolean } {
  const here = site.attempts.filter((attempt) => (uniqueId === null ? attempt.migrationId === migrationId : attempt.uniqueId === uniqueId))
  const movedOn = here.filter((attempt) => !isSuperseded(attempt, elsewhere))
  const decision = decidingAttempt(movedOn.length > 0 ? movedOn : here)
  const meant = migrationId === null ? decision : decidingAttempt(here.filter((attempt) => attempt.migrationId === migrationId))
  // What is not read yet may say that the machine moved on in between, and then the newest is the one that decides: it is the one to wait for.
  const judged = migrationId === null && decision?.disputed && elsewhere.some(isUnread) ? decision.newest : meant?.attempt
  if (judged) return { judged, disputed: decision?.attempt !== judged || decision.disputed || movedOn.length === 0 }
  const ours = own.find(({ row }) => row.id === migrationId)
  return {
    judged: {
      migrationId: migrationId ?? '',
      attempt: ours?.row.attempt ?? 1,
      uniqueId,
      startedAt: ours?.row.createdAt.getTime() ?? 0,
      sourceCloudId: ours?.row.sourceCloudId ?? null,
      sourceVmId: ours ? providerIdOf(ours.row.sourceCloudId, ours.row.sourceVirtualMachineId) : null,
      rollsBack: ours?.row.rollsBackMigrationId ?? null,
      vmId: null,
      records: { started: false, placeholder: false, outcome: null, completed: false, rolledBack: false },
      found: {},
    },
    disputed: false,
  }
}

function isUnread({ records }: ReadSite): boolean {
  return records.problem !== null
}

/**
 * The machine was moved here, and later on to another site: what was once done here says nothing of where it lives. One that was rolled back by the very migration that
 * took it away says the same as that.
 */
function isSuperseded(attempt: SiteAttempt, elsewhere: ReadSite[]): boolean {
  return elsewhere.some(({ attempts }) =>
    attempts.some(
      (other) =>
        other.uniqueId === attempt.uniqueId &&
        other.startedAt > attempt.startedAt &&
        decideVerdict(other.records).verdict === 'MIGRATED' &&
        !(attempt.records.rolledBack && other.rollsBack === attempt.migrationId),
    ),
  )
}
