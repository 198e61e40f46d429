/** The connected clouds at which children of jobs can be. */
import { ne } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { clouds } from '../database/tables/cloud.ts'
import type { ForkCapability, PluginLog, ProviderConnection } from '../plugin-sdk/index.ts'
import type { CloudConnections } from './cloud-connections.ts'

export interface JobCloud {
  cloudId: string
  name: string
  connection: ProviderConnection
}

export interface ForkingCloud extends JobCloud {
  fork: ForkCapability
}

interface Dependencies {
  database: Database
  connections: CloudConnections
  log: PluginLog
}

/** Those that can't be reached now are left out, and said in the log; of others than `cloudIds` nothing is asked. */
export async function jobClouds(
  { database, connections, log }: Dependencies,
  cloudIds: readonly string[] | null,
  signal: AbortSignal,
): Promise<JobCloud[]> {
  const connected = await database.select().from(clouds).where(ne(clouds.state, 'DISCONNECTED')).orderBy(clouds.connectedAt, clouds.id)
  const asked = connected.filter(({ id }) => cloudIds === null || cloudIds.includes(id))
  const found: JobCloud[] = []
  for (const { id: cloudId, name } of asked)
    try {
      found.push({ cloudId, name, connection: await connections.connection(cloudId, signal) })
    } catch (error) {
      signal.throwIfAborted()
      log('warn', `The cloud ${name} can't be asked for child VMs now: ${error instanceof Error ? error.message : String(error)}`)
    }
  return found
}

/** Those of them whose providers can fork. */
export async function forkingClouds(
  dependencies: Dependencies,
  cloudIds: readonly string[] | null,
  signal: AbortSignal,
): Promise<ForkingCloud[]> {
  const all = await jobClouds(dependencies, cloudIds, signal)
  return all.flatMap((cloud) => (cloud.connection.fork ? [{ ...cloud, fork: cloud.connection.fork }] : []))
}
