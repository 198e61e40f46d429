/** The live connections to clouds, by the cloud's id: opened when first needed, from the sealed options, and kept. */
import { eq } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { clouds } from '../database/tables/cloud.ts'
import { PortolanError } from '../domain/errors.ts'
import type { PluginLog, ProviderConnection } from '../plugin-sdk/index.ts'
import type { SealKey } from '../secrets/seal.ts'

export interface OpenedConnection {
  connection: ProviderConnection
  /** Members that the connection has, such as `network.expose`. */
  capabilities: string[]
}

/** What this needs of the plugin registry. */
export interface PluginConnector {
  /** Throws ProviderError: NOT_FOUND (no such plugin), INVALID_OPTIONS, UNAUTHORIZED, UNREACHABLE... The connection outlives a crash of the plugin's process. */
  connect(pluginId: string, options: unknown, context: { known: boolean; signal: AbortSignal; log: PluginLog }): Promise<OpenedConnection>
}

export interface CloudConnections {
  /** Throws PortolanError NOT_FOUND for a cloud that is unknown or disconnected, and what the plugin's connect throws. */
  connection(cloudId: string, signal: AbortSignal): Promise<ProviderConnection>
  /** Opens one that isn't a cloud yet. The caller hands it to `adopt`, or closes it. */
  open(pluginId: string, options: unknown, signal: AbortSignal): Promise<OpenedConnection>
  /** Closes the one that it replaces, should somebody have opened one meanwhile. */
  adopt(cloudId: string, sealedOptions: string, opened: OpenedConnection): void
  /** Closes it; nothing happens where there is none. */
  drop(cloudId: string): Promise<void>
  close(): Promise<void>
}

export function sealContext(cloudId: string): string {
  return `cloud-options/${cloudId}`
}

export function createCloudConnections(dependencies: {
  database: Database
  plugins: PluginConnector
  sealKey: SealKey
  log: PluginLog
}): CloudConnections {
  const { database, plugins, sealKey, log } = dependencies
  const connections = new Map<string, { sealedOptions: string; opened: Promise<OpenedConnection> }>()

  async function stored(cloudId: string): Promise<{ pluginId: string; sealedOptions: string }> {
    const [cloud] = await database.select().from(clouds).where(eq(clouds.id, cloudId))
    if (cloud && cloud.state !== 'DISCONNECTED') return cloud
    await drop(cloudId)
    throw new PortolanError('NOT_FOUND', `There is no connected cloud ${cloudId}.`, {
      retryable: false,
      remedy: 'Connect the cloud first.',
    })
  }

  async function drop(cloudId: string): Promise<void> {
    const kept = connections.get(cloudId)
    connections.delete(cloudId)
    await closeQuietly(kept?.opened, log)
  }

  return {
    async connection(cloudId, signal) {
      // Read each time: another control plane may have disconnected it, or connected it with other options.
      const { pluginId, sealedOptions } = await stored(cloudId)
      let kept = connections.get(cloudId)
      if (kept && kept.sealedOptions !== sealedOptions) {
        await drop(cloudId)
        kept = undefined
      }
      if (!kept) {
        const options: unknown = JSON.parse(sealKey.unseal(sealedOptions, sealContext(cloudId)))
        const made = { sealedOptions, opened: plugins.connect(pluginId, options, { known: true, signal, log }) }
        connections.set(cloudId, made)
        // A failed attempt isn't kept: the next caller tries anew, with a signal of its own.
        made.opened.catch(() => connections.get(cloudId) === made && connections.delete(cloudId))
        kept = made
      }
      return (await kept.opened).connection
    },
    open: (pluginId, options, signal) => plugins.connect(pluginId, options, { known: false, signal, log }),
    adopt(cloudId, sealedOptions, opened) {
      const replaced = connections.get(cloudId)
      connections.set(cloudId, { sealedOptions, opened: Promise.resolve(opened) })
      void closeQuietly(replaced?.opened, log)
    },
    drop,
    async close() {
      const open = [...connections.values()]
      connections.clear()
      await Promise.all(open.map(({ opened }) => closeQuietly(opened, log)))
    },
  }
}

async function closeQuietly(opened: Promise<OpenedConnection> | undefined, log: PluginLog): Promise<void> {
  try {
    await (await opened)?.connection.close()
  } catch (error) {
    log('warn', `A connection to a cloud did not close cleanly: ${error instanceof Error ? error.message : String(error)}`)
  }
}
