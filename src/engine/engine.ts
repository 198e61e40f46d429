/**
 * Durable workflows on Restate: an embedded server by default, or one of the operator's by URL. Everything that the engine keeps in its journal is plain text:
 * workflows take an id and return nothing, and what they know is in the database.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { connect, rpc } from '@restatedev/restate-sdk-clients'
import { createAdminClient } from './admin-client.ts'
import type { DurableWorkflow } from './durable-workflow.ts'
import { startEmbeddedServer, type EngineAddresses } from './embedded-server.ts'
import type { EngineLog } from './engine-log.ts'
import { ensureRequestIdentity } from './request-identity.ts'
import { openServiceEndpoint } from './service-endpoint.ts'

export type EngineLocation =
  | 'embedded'
  | {
      ingressUrl: string
      adminUrl: string
      /** Where the engine reaches this control plane. */
      serviceHost: string
      servicePort: number
      /** Public request identity keys of that engine (`publickeyv1_…`): requests that none of them signed are refused. */
      identityKeys: string[]
    }

export interface Engine {
  /** Names the journal that workflows are in: two control planes on one database tell theirs apart by it. */
  readonly id: string
  /** Durable when it returns. Submitting again under the same id is a no-op. */
  submit(workflow: string, id: string, signal: AbortSignal): Promise<void>
  healthy(signal: AbortSignal): Promise<boolean>
  /** The embedded server's process id; null where there is none. */
  readonly processId: number | null
  close(): Promise<void>
}

const callTimeoutMs = 30_000

export async function openEngine(options: {
  location: EngineLocation
  dataDirectory: string
  workflows: DurableWorkflow[]
  log: EngineLog
}): Promise<Engine> {
  return options.location === 'embedded' ? openEmbedded(options) : openRemote({ ...options, location: options.location })
}

async function openEmbedded(options: { dataDirectory: string; workflows: DurableWorkflow[]; log: EngineLog }): Promise<Engine> {
  const directory = join(options.dataDirectory, 'engine')
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const identityKeyPath = join(directory, 'request-identity.pem')
  const identityKey = await ensureRequestIdentity(identityKeyPath)
  // Beside the journal, not in it: should the journal be lost, its migrations are still ours to submit again.
  const id = await ensureId(join(options.dataDirectory, 'engine-id'))
  const endpoint = await openServiceEndpoint({ ...options, identityKeys: [identityKey], host: '127.0.0.1', port: 0 })
  const register = ({ adminUrl }: EngineAddresses) =>
    createAdminClient(adminUrl).register(`http://127.0.0.1:${endpoint.port}`, {
      onlyDeployment: true,
      signal: AbortSignal.timeout(callTimeoutMs),
    })
  try {
    const server = await startEmbeddedServer({
      directory: join(directory, 'journal'),
      identityKeyPath,
      log: options.log,
      onReady: register,
    })
    return {
      id,
      ...ingressCalls((signal) => server.addresses(signal)),
      get processId() {
        return server.processId
      },
      async close() {
        // The server first: as long as it lives it calls the service.
        await server.stop()
        await endpoint.close()
      },
    }
  } catch (error) {
    await endpoint.close()
    throw error
  }
}

async function openRemote(options: {
  location: Exclude<EngineLocation, 'embedded'>
  workflows: DurableWorkflow[]
  log: EngineLog
}): Promise<Engine> {
  const { ingressUrl, adminUrl, serviceHost, servicePort, identityKeys } = options.location
  if (identityKeys.length === 0)
    throw new Error(
      "The engine's identityKeys are missing: name the public request identity keys of your Restate server, so that nobody else can start workflows here.",
    )
  const endpoint = await openServiceEndpoint({ ...options, identityKeys, host: serviceHost, port: servicePort })
  try {
    await createAdminClient(adminUrl).register(`http://${serviceHost}:${endpoint.port}`, {
      onlyDeployment: false,
      signal: AbortSignal.timeout(callTimeoutMs),
    })
  } catch (error) {
    await endpoint.close()
    throw error
  }
  return {
    id: ingressUrl,
    ...ingressCalls(async () => ({ ingressUrl, adminUrl })),
    processId: null,
    close: () => endpoint.close(),
  }
}

function ingressCalls(addresses: (signal: AbortSignal) => Promise<EngineAddresses>): Pick<Engine, 'submit' | 'healthy'> {
  return {
    async submit(workflow, id, signal) {
      const { ingressUrl } = await addresses(signal)
      const client = connect({ url: ingressUrl }).workflowClient<{ run: () => Promise<void> }>({ name: workflow }, id)
      await client.workflowSubmit(rpc.sendOpts({ signal }))
    },
    async healthy(signal) {
      try {
        const { ingressUrl } = await addresses(signal)
        return (await fetch(`${ingressUrl}/restate/health`, { signal })).ok
      } catch {
        return false
      }
    },
  }
}

async function ensureId(path: string): Promise<string> {
  try {
    await writeFile(path, randomUUID(), { flag: 'wx', mode: 0o600 })
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
  return (await readFile(path, 'utf8')).trim()
}
