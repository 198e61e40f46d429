/**
 * Looks at clouds that did not answer, again and again. A cloud that answers again, or for the first time, may bring back the source of a machine that has moved on meanwhile: that one is
 * fenced. Only what this control plane moved, or was told to reconcile, is touched.
 */
import { and, eq, inArray, ne } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { clouds } from '../database/tables/cloud.ts'
import { migrations } from '../database/tables/migration.ts'
import { reconciliations } from '../database/tables/reconciliation.ts'
import { virtualMachines } from '../database/tables/topology.ts'
import type { PluginLog } from '../plugin-sdk/index.ts'
import { isReconcilable, takeUp } from './reconciliation-operations.ts'
import { runKeyOf } from './reconciliation-runner.ts'
import type { VerdictReader } from './verdict-reader.ts'
import { wait } from './wait.ts'

export interface ReconciliationWatch {
  /** One look, also what the timer does. */
  look(): Promise<void>
  close(): Promise<void>
}

const everyMs = 15_000
const refreshTimeoutMs = 10_000

export function startReconciliationWatch(dependencies: {
  database: Database
  verdicts: VerdictReader
  engineId: string
  submit: (runKey: string) => Promise<void>
  wake: () => void
  refreshTopology: (cloudId: string, signal: AbortSignal) => Promise<void>
  log: PluginLog
}): ReconciliationWatch {
  const { database, verdicts, engineId, submit, wake, refreshTopology, log } = dependencies
  const closing = new AbortController()
  const answering = new Set<string>()
  const wentSilent = new Set<string>()

  async function look(): Promise<void> {
    const connected = () => database.select({ id: clouds.id, state: clouds.state }).from(clouds).where(ne(clouds.state, 'DISCONNECTED'))
    const silent = (await connected()).filter(({ state }) => state === 'UNREACHABLE')
    await Promise.all(
      silent.map(({ id }) => {
        answering.delete(id)
        wentSilent.add(id)
        const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(refreshTimeoutMs)])
        return refreshTopology(id, signal).catch(() => {}) // its row says what is wrong
      }),
    )
    const back = (await connected()).filter(({ id, state }) => state === 'CONNECTED' && !answering.has(id)).map(({ id }) => id)
    if (back.length === 0) return
    wake()
    const returned = back.filter((id) => wentSilent.has(id))
    const unread = new Set<string | null>()
    const migrationIds = [...(await movedFrom(returned)), ...(await attestedDead(back))]
    for (let first = 0; first < migrationIds.length; first += 50)
      for (const id of await fenceReturned(migrationIds.slice(first, first + 50))) unread.add(id)
    for (const id of back) if (!unread.has(id)) answering.add(id)
  }

  /** Ours that are complete, and whose source the cloud shows. */
  async function movedFrom(cloudIds: string[]): Promise<string[]> {
    const rows = await database
      .select({ id: migrations.id })
      .from(migrations)
      .innerJoin(virtualMachines, eq(virtualMachines.id, migrations.sourceVirtualMachineId))
      .where(and(eq(migrations.state, 'COMPLETED'), inArray(migrations.sourceCloudId, cloudIds), eq(virtualMachines.present, true)))
    return rows.map(({ id }) => id)
  }

  /** Those that went live on somebody's word, and whose unique id a cloud shows that isn't the destination. */
  async function attestedDead(cloudIds: string[]): Promise<string[]> {
    const rows = await database
      .select({ id: reconciliations.migrationId })
      .from(reconciliations)
      .innerJoin(
        virtualMachines,
        and(eq(virtualMachines.uniqueId, reconciliations.uniqueId), ne(virtualMachines.cloudId, reconciliations.cloudId)),
      )
      .where(
        and(
          eq(reconciliations.state, 'DONE'),
          eq(reconciliations.verdict, 'MIGRATED'),
          eq(reconciliations.sourceFenced, false),
          inArray(virtualMachines.cloudId, cloudIds),
          eq(virtualMachines.present, true),
        ),
      )
    return [...new Set(rows.map(({ id }) => id))]
  }

  /** Answers with the clouds of sources of which nothing could be read after all. */
  async function fenceReturned(migrationIds: string[]): Promise<(string | null)[]> {
    const found = (await verdicts.read({ migrationIds }, closing.signal)).filter(isReconcilable)
    for (const verdict of found.filter(({ safeActions }) => safeActions.includes('FENCE_SOURCE'))) {
      const row = await database.transaction((tx) => takeUp(tx, verdict, { engineId, actor: null }))
      await submit(runKeyOf(row))
    }
    return found.filter(({ standing }) => standing.source.power === 'UNKNOWN').map(({ source }) => source.cloudId)
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
    async close() {
      closing.abort()
      await watching
    },
  }
}
