/** Which virtual machines a verdict was asked for, and at which site their records are. */
import { inArray, or, eq } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { migrations } from '../database/tables/migration.ts'
import { virtualMachines } from '../database/tables/topology.ts'
import { PortolanError } from '../domain/errors.ts'
import { isEnded } from '../domain/operator-actions.ts'
import type { SiteAttempt } from './verdict-records.ts'
import type { SiteReading } from './verdict-sites.ts'

/** By migrations, or by the cloud that they went to or came from. `at`: the site whose records are meant, where the asker knows it. */
export type VerdictQuestion = { migrationIds: readonly string[]; at?: string } | { cloudId: string }

export interface Subject {
  /** Null where nobody knows it. */
  siteCloudId: string | null
  uniqueId: string | null
  /** Only this migration's attempts are meant; null: all that the site has of the machine. */
  migrationId: string | null
}

export interface ReadSite extends SiteReading {
  attempts: SiteAttempt[]
}

export interface OwnMigration {
  row: typeof migrations.$inferSelect
  machine: Pick<typeof virtualMachines.$inferSelect, 'uniqueId' | 'name'> | null
}

/** Ours that the question is about: by id; or of the cloud, the newest of each machine first. */
export async function ownMigrations(database: Database, question: VerdictQuestion): Promise<OwnMigration[]> {
  const { id, sourceCloudId, destinationCloudId, startOrder } = migrations
  const asked =
    'cloudId' in question
      ? or(eq(sourceCloudId, question.cloudId), eq(destinationCloudId, question.cloudId))
      : inArray(id, [...question.migrationIds])
  const found = await database
    .select({ row: migrations, machine: { uniqueId: virtualMachines.uniqueId, name: virtualMachines.name } })
    .from(migrations)
    .leftJoin(virtualMachines, eq(virtualMachines.id, migrations.sourceVirtualMachineId))
    .where(asked)
    .orderBy(startOrder)
  return found.toReversed()
}

/** @throws PortolanError NOT_FOUND for what nobody has, CLOUD_UNREACHABLE where nothing at all is known of the cloud asked for. */
export function subjectsOf(question: VerdictQuestion, own: OwnMigration[], sites: Map<string, ReadSite>): Subject[] {
  return 'cloudId' in question
    ? ofCloud(question.cloudId, own, sites)
    : question.migrationIds.map((id) => ofMigration(id, question.at, own, sites))
}

function ofMigration(migrationId: string, at: string | undefined, own: OwnMigration[], sites: Map<string, ReadSite>): Subject {
  const ours = own.find(({ row }) => row.id === migrationId)
  if (ours) return { siteCloudId: siteOf(ours, sites), uniqueId: ours.machine?.uniqueId ?? null, migrationId }
  for (const { cloudId, attempts } of sites.values()) {
    if (at !== undefined && at !== cloudId) continue
    const attempt = attempts.find((candidate) => candidate.migrationId === migrationId)
    if (attempt) return { siteCloudId: cloudId, uniqueId: attempt.uniqueId, migrationId }
  }
  if (at !== undefined) return { siteCloudId: at, uniqueId: null, migrationId }
  if ([...sites.values()].some(({ records }) => records.problem !== null)) return { siteCloudId: null, uniqueId: null, migrationId }
  throw new PortolanError(
    'NOT_FOUND',
    `Neither this control plane nor the records of any connected cloud know a migration ${JSON.stringify(migrationId)}.`,
    {
      retryable: false,
      remedy: 'Connect the cloud that it went to, or ask by cloudId for what a cloud has records of.',
      path: ['migrationIds'],
    },
  )
}

/** The destination's cloud; where that is not connected, the one site that has the migration's records, which is that cloud under another id. */
function siteOf({ row, machine }: OwnMigration, sites: Map<string, ReadSite>): string {
  if (sites.has(row.destinationCloudId)) return row.destinationCloudId
  const [site, another] = [...sites.values()].filter(({ attempts }) =>
    attempts.some(({ migrationId, uniqueId }) => migrationId === row.id && uniqueId === machine?.uniqueId),
  )
  return site && !another ? site.cloudId : row.destinationCloudId
}

function ofCloud(cloudId: string, own: OwnMigration[], sites: Map<string, ReadSite>): Subject[] {
  const site = sites.get(cloudId)
  if (!site)
    throw new PortolanError('NOT_FOUND', `There is no connected cloud ${cloudId}.`, {
      retryable: false,
      remedy: 'See the list of clouds for the ids, or connect it.',
      path: ['cloudId'],
    })
  const subjects = new Map<string, Subject>()
  const add = (siteCloudId: string, uniqueId: string | null, migrationId: string | null) => {
    const key = `${siteCloudId}/${uniqueId ?? migrationId}`
    if (!subjects.has(key)) subjects.set(key, { siteCloudId, uniqueId, migrationId })
  }
  for (const { uniqueId } of site.attempts) if (uniqueId) add(cloudId, uniqueId, null)
  // It may be the source of what other sites have records of.
  for (const other of sites.values()) {
    if (other === site || isSameSite(other, site)) continue
    for (const { uniqueId } of other.attempts)
      if (uniqueId && site.machines.value?.some((machine) => machine.uniqueId === uniqueId)) add(other.cloudId, uniqueId, null)
  }
  for (const ours of own) {
    const { row, machine } = ours
    const siteCloudId = siteOf(ours, sites)
    const unread = (sites.get(siteCloudId)?.records ?? { problem: '' }).problem !== null
    if (unread || !isEnded(row.state)) add(siteCloudId, machine?.uniqueId ?? null, row.id)
  }
  if (subjects.size === 0 && site.records.problem !== null)
    throw new PortolanError(
      'CLOUD_UNREACHABLE',
      `The records of the cloud could not be read, so nothing is known of its migrations: ${site.records.problem}`,
      {
        retryable: true,
        remedy: 'See that the cloud answers, then ask again; start nothing meanwhile.',
        path: ['cloudId'],
      },
    )
  return [...subjects.values()]
}

/** One place may be connected twice: its records tell. */
export function isSameSite(one: ReadSite, other: ReadSite): boolean {
  return one.attempts.some((mine) =>
    other.attempts.some((theirs) => mine.migrationId === theirs.migrationId && mine.attempt === theirs.attempt),
  )
}
