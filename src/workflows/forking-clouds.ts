/** The connected clouds whose providers can fork. */
import { ne } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { clouds } from '../database/tables/cloud.ts'
import type { ForkCapability, PluginLog } from '../plugin-sdk/index.ts'
import type { CloudConnections } from './cloud-connections.ts'

export interface ForkingCloud {
  cloudId: string
  name: string
  fork: ForkCapability
}

/** Those that can't be reached now are left out, and said in the log; of others than `cloudIds` nothing is asked. */
export async function forkingClouds(
  dependencies: { database: Database; connections: CloudConnections; log: PluginLog },
  cloudIds: readonly string[] | null,
  signal: AbortSignal,
): Promise<ForkingCloud[]> {
  const { database, connections, log } = dependencies
  const connected = await database.select().from(clouds).where(ne(clouds.state, 'DISCONNECTED')).orderBy(clouds.connectedAt, clouds.id)
  const asked = connected.filter(({ id }) => cloudIds === null || cloudIds.includes(id))
  const found: ForkingCloud[] = []
  for (const { id: cloudId, name } of asked)
    try {
      const { fork } = await connections.connection(cloudId, signal)
      if (fork) found.push({ cloudId, name, fork })
    } catch (error) {
      signal.throwIfAborted()
      log('warn', `The cloud ${name} can't be asked for child VMs now: ${error instanceof Error ? error.message : String(error)}`)
    }
  return found
}
