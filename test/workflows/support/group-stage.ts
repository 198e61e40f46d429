/** Groups without clouds: a database with many machines in the cloud `east`, and migrations whose phases only say what they do. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDatabase, type Database } from '../../../src/database/client.ts'
import { clouds } from '../../../src/database/tables/cloud.ts'
import { disks, hosts, virtualMachines } from '../../../src/database/tables/topology.ts'
import type { MigrationPhase } from '../../../src/domain/migration.ts'
import { sealKeyOf } from '../../../src/secrets/seal.ts'
import { createWorkflows, type Workflows } from '../../../src/workflows/create-workflows.ts'
import { cutoverObstacle } from '../../../src/workflows/cutover-obstacle.ts'
import type { NewMember } from '../../../src/workflows/operations.ts'
import type { PhaseLists } from '../../../src/workflows/phase-lists.ts'
import { admission } from '../../../src/workflows/phases/admission.ts'
import { done, type Phase, type PhaseContext } from '../../../src/workflows/phase.ts'
import { wait } from '../../../src/workflows/wait.ts'
import { createFakeGateway } from './fake-gateway.ts'
import { createFakeWorld } from './fake-world.ts'
import { artifacts, migrationRequest, quickTimings } from './migration-settings-for-tests.ts'

export const hostCount = 3

/** Machine `index` is on host `index % hostCount`. */
export async function storeMachines(database: Database, count: number): Promise<void> {
  const now = new Date()
  const cloud = { pluginId: 'fake', sealedOptions: '', state: 'CONNECTED' as const, capabilities: [], connectedAt: now }
  const host = { zoneId: 'zone', architecture: 'x86_64', cpuCount: 1, memoryBytes: 1 }
  const indexes = Array.from({ length: count }, (_, index) => index)
  await database.write((orm) => [
    orm.insert(clouds).values(['east', 'west'].map((id) => ({ ...cloud, id, name: id }))),
    orm.insert(hosts).values(
      Array.from({ length: hostCount }, (_, index) => ({
        ...host,
        id: `east/h${index}`,
        cloudId: 'east',
        providerId: `h${index}`,
        name: `h${index}`,
      })),
    ),
    ...indexes.flatMap((index) => [
      orm.insert(virtualMachines).values({
        id: `east/vm-${index}`,
        cloudId: 'east',
        providerId: `vm-${index}`,
        uniqueId: `unique-${index}`,
        name: `vm-${index}`,
        power: 'RUNNING',
        hostId: `east/h${index % hostCount}`,
        architecture: 'x86_64',
        firmware: 'BIOS',
        cpuCount: 1,
        memoryBytes: 1,
        present: true,
        seenAt: now,
      }),
      orm.insert(disks).values({
        id: `east/vm-${index}/disk/0`,
        virtualMachineId: `east/vm-${index}`,
        cloudId: 'east',
        providerId: 'vda',
        index: 0,
        sizeBytes: 1,
        bus: 'virtio',
      }),
    ]),
  ])
}

/** Member `m<index>` moves machine `index`. */
export function member(index: number, dependsOn: number[] = []): NewMember {
  return {
    name: `m${index}`,
    dependsOn: dependsOn.map((other) => `m${other}`),
    request: migrationRequest({ sourceVirtualMachineId: `east/vm-${index}`, destinationCloudId: 'west', networkMap: [] }),
  }
}

/** What a migration's phases ask and tell: `machine` is its index. */
export interface Script {
  copy(machine: number, context: PhaseContext): Promise<void>
  cutOver(machine: number, context: PhaseContext): Promise<void>
}

/** The real queue and the real wait for a cutover, and between them a copy and a cutover that only tell the script. */
function scriptedPhases(script: Script): PhaseLists {
  const phase = (name: MigrationPhase, control: Phase['control'], work: (context: PhaseContext) => Promise<void>): Phase => ({
    name,
    control,
    timeoutMs: null,
    do: async (context) => {
      await work(context)
      return done
    },
    undo: null,
  })
  const machine = ({ migration }: PhaseContext) => Number(migration.sourceVirtualMachineId.split('-')[1])
  return {
    1: [
      phase('PRE_FLIGHT', 'CANCELLABLE', async () => {}),
      admission,
      phase('SYNC', 'PAUSABLE', (context) => script.copy(machine(context), context)),
      phase('READY_TO_CUT_OVER', 'PAUSABLE', async (context) => {
        while ((await cutoverObstacle(context)) !== null) {
          await wait(quickTimings.pollMs, context.signal)
          await context.holdWhilePaused()
        }
      }),
      // Not COMMIT: of one that may have committed a restarted control plane asks the destination, of which there is none.
      phase('CLEAN_UP', 'FORWARD_ONLY', (context) => script.cutOver(machine(context), context)),
    ],
  }
}

/** A control plane with the real engine on that database. */
export function openControlPlane(database: Database, dataDirectory: string, script: Script): Promise<Workflows> {
  return createWorkflows({
    database,
    gateway: createFakeGateway(createFakeWorld()),
    plugins: { connect: () => Promise.reject(new Error('There are no clouds here.')) },
    sealKey: sealKeyOf(Buffer.alloc(32, 7)),
    artifacts,
    engine: 'embedded',
    dataDirectory,
    advertise: [],
    log: () => {},
    timings: quickTimings,
    phaseLists: scriptedPhases(script),
  })
}

export async function temporaryDatabase(): Promise<{ database: Database; directory: string; remove(): Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), 'portolan-group-'))
  const database = await openDatabase({ dataDirectory: directory })
  return {
    database,
    directory,
    async remove() {
      await database.close()
      await rm(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
    },
  }
}
