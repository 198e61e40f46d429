/**
 * Asks each cloud whether it answers, again and again. One that answers again, or for the first time, may bring back the source of a machine that has moved on meanwhile: that one is
 * fenced; or one that was given up as dead, and lives on there by its verdict: that one is let go on. Only what this control plane moved, or was told to reconcile, or had an administrator's
 * word about, is touched.
 */
import { and, eq, inArray, ne } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { attestations } from '../database/tables/attestation.ts'
import { clouds } from '../database/tables/cloud.ts'
import { migrations } from '../database/tables/migration.ts'
import { reconciliations } from '../database/tables/reconciliation.ts'
import { virtualMachines } from '../database/tables/topology.ts'
import { isDueUnasked, mayBecomeDue } from '../domain/verdict-actions.ts'
import type { PluginLog } from '../plugin-sdk/index.ts'
import type { CloudConnections } from './cloud-connections.ts'
import { isOutOfReach } from './failure.ts'
import { isReconcilable, takeUp } from './reconciliation-operations.ts'
import { runKeyOf } from './reconciliation-runner.ts'
import type { VerdictReader } from './verdict-reader.ts'
import { wait } from './wait.ts'

export interface ReconciliationWatch {
  /** One look, also what the timer does. */
  look(): Promise<void>
  /** From the next look on each cloud counts as one that has only just answered: it may have been silent too shortly to be noticed. */
  doubt(): void
  close(): Promise<void>
}

const everyMs = 15_000
const answerTimeoutMs = 10_000
/** Asked for to see whether a cloud answers: it is cheap where no record has such a key. */
const nobodysPrefix = 'is-anybody-there'

/** A migration by the site that has its records. */
interface Candidate {
  migrationId: string
  cloudId: string
  sourceCloudId: string
}

export function startReconciliationWatch(dependencies: {
  database: Database
  connections: Pick<CloudConnections, 'connection'>
  verdicts: VerdictReader
  engineId: string
  submit: (runKey: string) => Promise<void>
  wake: () => void
  refreshTopology: (cloudId: string, signal: AbortSignal) => Promise<void>
  log: PluginLog
}): ReconciliationWatch {
  const { database, connections, verdicts, engineId, submit, wake, refreshTopology, log } = dependencies
  const closing = new AbortController()
  const answering = new Set<string>()
  const wentSilent = new Set<string>()
  let doubts = 0

  async function look(): Promise<void> {
    const doubtsBefore = doubts
    const connected = () => database.select({ id: clouds.id, state: clouds.state }).from(clouds).where(ne(clouds.state, 'DISCONNECTED'))
    const silent = new Set<string>()
    await Promise.all(
      (await connected()).map(async ({ id, state }) => {
        if (state === 'CONNECTED' && (await answers(id))) return
        answering.delete(id)
        wentSilent.add(id)
        const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(answerTimeoutMs)])
        await refreshTopology(id, signal).catch(() => silent.add(id)) // its row says what is wrong
      }),
    )
    const back = (await connected())
      .filter(({ id, state }) => state === 'CONNECTED' && !answering.has(id) && !silent.has(id))
      .map(({ id }) => id)
    if (back.length === 0) return
    wake()
    const returned = back.filter((id) => wentSilent.has(id))
    const unread = new Set<string>()
    const candidates = [...(await movedFrom(returned)), ...(await reconciledWithoutSource(back)), ...(await attestedDead(back))]
    for (const [cloudId, ofCloud] of Map.groupBy(candidates, (candidate) => candidate.cloudId)) {
      const migrationIds = [...new Set(ofCloud.map(({ migrationId }) => migrationId))]
      for (let first = 0; first < migrationIds.length; first += 50)
        for (const id of await putRight(cloudId, migrationIds.slice(first, first + 50)))
          for (const { migrationId, sourceCloudId } of ofCloud) if (migrationId === id) unread.add(sourceCloudId)
    }
    if (doubts === doubtsBefore) for (const id of back) if (!unread.has(id)) answering.add(id)
  }

  async function answers(cloudId: string): Promise<boolean> {
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(answerTimeoutMs)])
    try {
      const { records } = await connections.connection(cloudId, signal)
      await records.list({ keyPrefix: nobodysPrefix, signal })
      return true
    } catch (error) {
      return !signal.aborted && !isOutOfReach(error)
    }
  }

  /** Ours that are complete, and whose source the cloud shows. */
  async function movedFrom(cloudIds: string[]): Promise<Candidate[]> {
    return database
      .select({ migrationId: migrations.id, cloudId: migrations.destinationCloudId, sourceCloudId: migrations.sourceCloudId })
      .from(migrations)
      .innerJoin(virtualMachines, eq(virtualMachines.id, migrations.sourceVirtualMachineId))
      .where(and(eq(migrations.state, 'COMPLETED'), inArray(migrations.sourceCloudId, cloudIds), eq(virtualMachines.present, true)))
  }

  /** Those that ended while nobody could ask for the source, and whose unique id a cloud shows that isn't the destination. */
  async function reconciledWithoutSource(cloudIds: string[]): Promise<Candidate[]> {
    return database
      .select({ migrationId: reconciliations.migrationId, cloudId: reconciliations.cloudId, sourceCloudId: virtualMachines.cloudId })
      .from(reconciliations)
      .innerJoin(virtualMachines, shownElsewhere(reconciliations, cloudIds))
      .where(and(eq(reconciliations.state, 'DONE'), eq(reconciliations.verdict, 'MIGRATED'), eq(reconciliations.sourceFenced, false)))
  }

  /** Whatever became of them: they went live on that word, or were given up by their workflow or a reconciliation. */
  async function attestedDead(cloudIds: string[]): Promise<Candidate[]> {
    return database
      .select({ migrationId: attestations.migrationId, cloudId: attestations.cloudId, sourceCloudId: virtualMachines.cloudId })
      .from(attestations)
      .innerJoin(virtualMachines, shownElsewhere(attestations, cloudIds))
  }

  function shownElsewhere(table: typeof attestations | typeof reconciliations, cloudIds: string[]) {
    return and(
      eq(virtualMachines.uniqueId, table.uniqueId),
      ne(virtualMachines.cloudId, table.cloudId),
      inArray(virtualMachines.cloudId, cloudIds),
      eq(virtualMachines.present, true),
    )
  }

  /**
   * Answers with those that are not right yet: what was due may fail, a site may say too little, a workflow may still run. They are looked at again as if their sources' clouds had only
   * returned then.
   */
  async function putRight(at: string, migrationIds: string[]): Promise<string[]> {
    const found = await verdicts.read({ migrationIds, at }, closing.signal)
    for (const verdict of found.filter(isReconcilable).filter(({ standing }) => isDueUnasked(standing))) {
      const row = await database.transaction((tx) => takeUp(tx, verdict, { engineId, actor: null }))
      await submit(runKeyOf(row))
    }
    return found.filter(({ standing }) => isDueUnasked(standing) || mayBecomeDue(standing)).map(({ migrationId }) => migrationId)
  }

  async function lookAgainAndAgain(): Promise<void> {
    for (;;) {
      await wait(everyMs, closing.signal)
      await look().catch((error: unknown) => log('warn', `Clouds could not be looked at for returning sources: ${String(error)}`))
    }
  }
  const watching = lookAgainAndAgain().catch(() => {}) // ends with the abort
  return {
    look,
    doubt() {
      doubts++
      answering.clear()
    },
    async close() {
      closing.abort()
      await watching
    },
  }
}
