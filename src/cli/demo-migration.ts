import { randomUUID } from 'node:crypto'
import type { Endpoint } from '../plugin-sdk/index.ts'
import * as documents from './demo-documents.ts'
import { progressLine, type DemoResult } from './demo-report.ts'
import type { GraphqlClient } from './graphql-client.ts'
import { ApiError } from './graphql-client.ts'
import type { RecordClient } from './record-client.ts'

/** A migration as the demo's documents select it. */
export interface DemoMigration {
  id: string
  state: 'PENDING' | 'RUNNING' | 'PAUSED' | 'COMPLETED' | 'FAILED' | 'CANCELLED' | 'ROLLED_BACK'
  phase: string
  /** What it waits for at present: one sentence. */
  problem: string | null
  diskBytes: number | string | null
  bytesSent: number | string
  rateBytesPerSecond: number | null
  etaMs: number | null
  bottleneck: string | null
  estimatedRemainingMs: number | null
  verified: boolean
  durationMs: number | null
  transport: string | null
  currentRound: { round: number; totalBytes: number | string; scannedBytes: number | string } | null
  downtime: (DemoResult['downtime'] & { totalMs: number }) | null
  error: { message: string; remedy: string } | null
  rounds: { nodes: { round: number; changedBytes: number | string; bytesSent: number | string; durationMs: number | null }[] }
  destination: { endpoints: { guestPort: number; host: string; port: number }[]; networkInterfaces: { addresses: string[] }[] } | null
}

type Payload<Success> = Success & { code?: string; message?: string; remedy?: string }

/** A mutation that gives its payload, or throws what its typed error says. */
async function mutate<Success>(api: GraphqlClient, document: string, input: Record<string, unknown>): Promise<Success> {
  const data = await api.run<Record<string, Payload<Success>>>(document, { input })
  const payload = Object.values(data)[0]!
  if (payload.code !== undefined) throw new ApiError(`${payload.message} ${payload.remedy}`)
  return payload
}

interface Cloud {
  id: string
  name: string
  plugin: { pluginId: string } | null
  capabilities: string[]
  virtualMachines: { nodes: { id: string; name: string; uniqueId: string; power: string }[] }
}

/** Connects a cloud; its topology is read before this returns. */
export async function connectCloud(
  api: GraphqlClient,
  cloud: { name: string; pluginId: string; options: Record<string, unknown> },
): Promise<void> {
  await mutate(api, documents.connectCloud, {
    idempotencyKey: randomUUID(),
    name: cloud.name,
    pluginId: cloud.pluginId,
    options: cloud.options,
  })
}

export async function readClouds(api: GraphqlClient): Promise<Cloud[]> {
  return (await api.run<{ clouds: { nodes: Cloud[] } }>(documents.topology)).clouds.nodes
}

/** Pre-flight, start, progress, cutover, to the end; only through the API. */
export async function migrate(
  api: GraphqlClient,
  options: {
    sourceVirtualMachineId: string
    destinationCloudId: string
    permittedDowntimeMs: number
    say: (line: string) => void
    progress: (line: string) => void
    /** Sees each state before anything else happens with it. */
    watch?: (migration: DemoMigration) => Promise<void>
  },
): Promise<DemoMigration> {
  const { say, progress } = options
  const request = {
    sourceVirtualMachineId: options.sourceVirtualMachineId,
    destinationCloudId: options.destinationCloudId,
    permittedDowntimeMs: options.permittedDowntimeMs,
    cutoverPolicy: 'MANUAL',
    healthCheck: { http: { port: 8080, path: '/health', timeoutMs: 180_000 } },
  }
  const { findings } = await mutate<{ findings: { severity: string; message: string; remedy: string }[] }>(
    api,
    documents.validateMigration,
    { ...request, idempotencyKey: randomUUID() },
  )
  for (const finding of findings) say(`pre-flight: ${finding.severity.toLowerCase()}: ${finding.message}`)
  if (findings.length === 0) say('pre-flight: nothing found')

  const { migration } = await mutate<{ migration: { id: string } }>(api, documents.startMigration, {
    ...request,
    idempotencyKey: randomUUID(),
  })
  const ended = new AbortController()
  let cutOverAsked = false
  for await (const { migrationProgress } of api.subscribe<{ migrationProgress: DemoMigration }>(
    documents.migrationProgress,
    { id: migration.id },
    ended.signal,
  )) {
    progress(progressLine(migrationProgress))
    await options.watch?.(migrationProgress)
    if (migrationProgress.phase === 'READY_TO_CUT_OVER' && !cutOverAsked) {
      cutOverAsked = true
      say(`ready: what remains would take ${((migrationProgress.estimatedRemainingMs ?? 0) / 1000).toFixed(1)} s; cutting over`)
      await mutate(api, documents.cutOverMigration, { idempotencyKey: randomUUID(), migrationId: migration.id })
    }
    if (migrationProgress.state === 'COMPLETED') return migrationProgress
    if (migrationProgress.state === 'FAILED' || migrationProgress.state === 'CANCELLED')
      throw new ApiError(
        `The migration ended ${migrationProgress.state}: ${migrationProgress.error?.message ?? ''} ${migrationProgress.error?.remedy ?? ''}`,
      )
  }
  throw new ApiError('The subscription ended before the migration did.')
}

/** Where the moved VM's workload answers, as the API tells. */
export function workloadEndpoint(migration: DemoMigration, guestPort: number): Endpoint {
  const forwarded = migration.destination?.endpoints.find((endpoint) => endpoint.guestPort === guestPort)
  if (forwarded) return { host: forwarded.host, port: forwarded.port }
  const address = migration.destination?.networkInterfaces.flatMap((nic) => nic.addresses)[0]
  if (address === undefined) throw new ApiError('The API tells no address of the destination VM.')
  return { host: address, port: guestPort }
}

/** The demo's JSON line. */
export async function resultOf(
  migration: DemoMigration,
  records: RecordClient,
  providers: { source: string; destination: string },
): Promise<DemoResult> {
  const { totalMs, ...downtime } = migration.downtime ?? { totalMs: 0, freezeMs: 0, transferMs: 0, verifyMs: 0, bootMs: 0, healthMs: 0 }
  const recordsAcknowledged = records.acknowledged()
  const recordsFound = await records.count()
  return {
    verified: migration.verified && recordsFound === recordsAcknowledged && recordsAcknowledged > 0,
    sourceProvider: providers.source,
    destinationProvider: providers.destination,
    diskBytes: Number(migration.diskBytes),
    bytesSent: Number(migration.bytesSent),
    rounds: migration.rounds.nodes.map((round) => ({
      round: round.round,
      changedBytes: Number(round.changedBytes),
      bytesSent: Number(round.bytesSent),
      durationMs: round.durationMs ?? 0,
    })),
    downtimeMs: totalMs,
    downtime,
    recordsAcknowledged,
    recordsFound,
    durationMs: migration.durationMs ?? 0,
  }
}
