import { afterEach, expect, test } from 'vitest'
import { reconciliations } from '../../src/database/tables/reconciliation.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import { createWorkflows, type Workflows } from '../../src/workflows/create-workflows.ts'
import { createFakeGateway } from './support/fake-gateway.ts'
import { createFakeWorld } from './support/fake-world.ts'
import { artifacts, operator } from './support/migration-settings-for-tests.ts'
import { machine, migrationId, putRecords, setVerdictStage, type VerdictStage } from './verdict-stage.ts'

const admin = { tokenId: 'admin', role: 'ADMIN' as const }
let stage: VerdictStage | undefined
let workflows: Workflows | undefined
afterEach(async () => {
  await workflows?.close()
  await stage?.close()
})

/** Over the real engine, in the directory of the one before it. */
async function start({ east, west, database, directory }: VerdictStage): Promise<Workflows> {
  return createWorkflows({
    database,
    gateway: createFakeGateway(createFakeWorld()),
    plugins: { connect: async (pluginId) => ({ connection: (pluginId === 'east' ? east : west).connection, capabilities: [] }) },
    sealKey: sealKeyOf(Buffer.alloc(32, 7)),
    artifacts,
    engine: 'embedded',
    dataDirectory: directory,
    advertise: [],
    log: () => {},
  })
}

test('a reconciliation that waits for a source goes on after a restart, and ends when the source is back', async () => {
  stage = await setVerdictStage()
  const { east, west, database } = stage
  east.machines['vm-1'] = machine({ power: 'SUSPENDED', fence: { id: `${migrationId}.1.2`, closed: false } })
  west.machines['copy'] = machine({ exposed: false })
  putRecords(west, ['started', 'placeholder', 'COMMITTED'])
  workflows = await start(stage)
  const connect = async (name: string) =>
    (await workflows!.operations.connectCloud(admin, { idempotencyKey: name, name, pluginId: name, options: {} })).cloudId
  await connect('east')
  const cloudId = await connect('west')
  east.site = 'DEAD'

  const { reconciliationIds } = await workflows.operations.reconcileMigrations(operator, { idempotencyKey: 'reconcile', cloudId })
  const state = async () => (await database.select().from(reconciliations)).map((row) => row.state)
  await expect.poll(state, { timeout: 30_000 }).toEqual(['WAITING'])

  await workflows.close()
  east.site = 'ALIVE'
  workflows = await start(stage)
  await expect.poll(state, { timeout: 30_000 }).toEqual(['DONE'])
  expect(await workflows.operations.reconcileMigrations(operator, { idempotencyKey: 'reconcile', cloudId })).toEqual({ reconciliationIds })
  expect(west.machines['copy']).toMatchObject({ power: 'RUNNING', exposed: true })
  expect(east.machines['vm-1']).toMatchObject({ power: 'STOPPED', fence: { closed: true } })
  expect(stage.violations).toEqual([])
})
