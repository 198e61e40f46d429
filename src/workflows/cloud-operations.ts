import { randomUUID } from 'node:crypto'
import { and, eq, gt, inArray, notInArray, or } from 'drizzle-orm'
import type { Database, Transaction } from '../database/client.ts'
import { clouds } from '../database/tables/cloud.ts'
import { jobChildren, jobs } from '../database/tables/job.ts'
import { activeMigrations, migrations } from '../database/tables/migration.ts'
import { parentVmCopies, parentVms } from '../database/tables/parent-vm.ts'
import { disks, hosts, networks, nics, regions, subnets, virtualMachines, zones } from '../database/tables/topology.ts'
import { PortolanError } from '../domain/errors.ts'
import type { SealKey } from '../secrets/seal.ts'
import { sealContext, type CloudConnections } from './cloud-connections.ts'
import { translated } from './failure.ts'
import type { Idempotency } from './idempotency.ts'
import type { Operations } from './operations.ts'
import { requireCloud } from './require-cloud.ts'
import { refreshTopology } from './topology-refresh.ts'

export type CloudOperations = Pick<Operations, 'connectCloud' | 'disconnectCloud' | 'refreshTopology'>

const connectTimeoutMs = 60_000

export function createCloudOperations(dependencies: {
  database: Database
  connections: CloudConnections
  idempotency: Idempotency
  sealKey: SealKey
}): CloudOperations {
  const { database, connections, idempotency, sealKey } = dependencies

  return {
    /** The connection is tried first: a cloud that can't be reached with these options isn't stored. A disconnected cloud of that name is connected again. */
    connectCloud: (actor, input) =>
      translated(() =>
        idempotency.once(actor, 'connectCloud', input, async (commit) => {
          const { name, pluginId, options } = input
          requireName(name)
          const cloudId = await idFor(database, name, pluginId)
          const signal = AbortSignal.timeout(connectTimeoutMs)
          const opened = await connections.open(pluginId, options, signal)
          const sealedOptions = sealKey.seal(JSON.stringify(options ?? null), sealContext(cloudId))
          const row = { name, pluginId, sealedOptions, state: 'CONNECTED' as const, problem: null, capabilities: opened.capabilities }
          try {
            await commit(
              async (tx) => {
                // Another request may have taken the name, or connected the same cloud again, while this one was trying the connection.
                const [twin] = await tx.select({ id: clouds.id, state: clouds.state }).from(clouds).where(eq(clouds.name, name))
                if (twin && (twin.id !== cloudId || twin.state !== 'DISCONNECTED')) throw nameTaken(name)
                const values = { ...row, id: cloudId, connectedAt: new Date() }
                await tx.insert(clouds).values(values).onConflictDoUpdate({ target: clouds.id, set: values })
                return { cloudId }
              },
              [{ topic: 'CLOUD', subject: cloudId }],
            )
          } catch (error) {
            await opened.connection.close()
            throw error
          }
          connections.adopt(cloudId, sealedOptions, opened)
          // What it holds is read now; should that fail, the cloud's row says so, and the cloud stays connected.
          await refreshTopology(database, connections, cloudId, AbortSignal.timeout(connectTimeoutMs)).catch(() => {})
          return { cloudId }
        }),
      ),

    disconnectCloud: (actor, input) =>
      translated(() =>
        idempotency.once(actor, 'disconnectCloud', input, async (commit) => {
          const { cloudId } = input
          await requireCloud(database, cloudId)
          const answer = await commit(
            async (tx) => {
              await requireIdle(tx, cloudId)
              // The rows that migrations name stay; what is known of the rest goes, the credentials first.
              await tx.update(clouds).set({ state: 'DISCONNECTED', sealedOptions: '', problem: null }).where(eq(clouds.id, cloudId))
              await tx.update(virtualMachines).set({ present: false }).where(eq(virtualMachines.cloudId, cloudId))
              for (const table of [subnets, networks, hosts, zones, regions, nics, disks])
                await tx.delete(table).where(eq(table.cloudId, cloudId))
              return { cloudId }
            },
            [{ topic: 'CLOUD', subject: cloudId }],
          )
          await connections.drop(cloudId)
          return answer
        }),
      ),

    refreshTopology: (actor, input) =>
      translated(() =>
        idempotency.once(actor, 'refreshTopology', input, async (commit) => {
          await requireCloud(database, input.cloudId)
          await refreshTopology(database, connections, input.cloudId, AbortSignal.timeout(connectTimeoutMs))
          return commit(async () => ({ cloudId: input.cloudId }), [])
        }),
      ),
  }
}

/** What only this connection can end there must have ended. */
async function requireIdle(tx: Transaction, cloudId: string): Promise<void> {
  const [migration] = await tx
    .select({ id: migrations.id })
    .from(migrations)
    .innerJoin(activeMigrations, eq(activeMigrations.migrationId, migrations.id))
    .where(or(eq(migrations.sourceCloudId, cloudId), eq(migrations.destinationCloudId, cloudId)))
    .limit(1)
  if (migration) throw inUse(`Migration ${migration.id} uses the cloud`, 'Wait for the migration to end, or cancel it.')
  const [job] = await tx
    .select({ name: jobs.name })
    .from(jobChildren)
    .innerJoin(jobs, eq(jobs.id, jobChildren.jobId))
    .where(and(eq(jobChildren.cloudId, cloudId), notInArray(jobChildren.state, ['LOST', 'DELETED'])))
    .limit(1)
  if (job) throw inUse(`The job ${JSON.stringify(job.name)} has children there`, 'Wait for the job to end, or cancel it.')
  const [parent] = await tx
    .select({ name: parentVms.name, state: parentVms.state })
    .from(parentVmCopies)
    .innerJoin(parentVms, and(eq(parentVms.id, parentVmCopies.parentVmId), eq(parentVms.generation, parentVmCopies.generation)))
    .where(
      and(
        eq(parentVmCopies.cloudId, cloudId),
        inArray(parentVmCopies.state, ['BUILDING', 'READY']),
        or(
          inArray(parentVms.state, ['REGISTERED', 'BUILDING']),
          and(eq(parentVms.state, 'READY'), eq(parentVmCopies.childOrigin, 'FORKED'), gt(parentVms.pausedChildren, 0)),
        ),
      ),
    )
    .limit(1)
  if (!parent) return
  const name = JSON.stringify(parent.name)
  throw parent.state === 'READY'
    ? inUse(`Children of the parent VM ${name} stand ready there`, 'Register it again with `pausedChildren: 0`, or delete it.')
    : inUse(`The parent VM ${name} is being built there`, 'Wait until it is READY or FAILED, or delete it.')
}

function inUse(because: string, remedy: string): PortolanError {
  return new PortolanError('CONFLICT', `${because}, so it stays connected.`, { retryable: true, remedy, path: ['input', 'cloudId'] })
}

function requireName(name: string): void {
  if (/^[^\p{C}]{1,100}$/u.test(name) && name.trim() === name) return
  throw new PortolanError(
    'INVALID_INPUT',
    'The name of a cloud is 1 to 100 visible characters, without a space at its ends; nothing was stored.',
    {
      retryable: false,
      remedy: 'Choose another name; nothing was made.',
      path: ['input', 'name'],
    },
  )
}

async function idFor(database: Database, name: string, pluginId: string): Promise<string> {
  const [existing] = await database.select().from(clouds).where(eq(clouds.name, name))
  if (!existing) return randomUUID()
  if (existing.state === 'DISCONNECTED' && existing.pluginId === pluginId) return existing.id
  throw nameTaken(name)
}

function nameTaken(name: string): PortolanError {
  return new PortolanError('CONFLICT', `There is a cloud named ${JSON.stringify(name)} already; nothing was changed.`, {
    retryable: false,
    remedy: 'Choose another name, or disconnect that cloud first.',
    path: ['input', 'name'],
  })
}
