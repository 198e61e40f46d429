/**
 * A control plane with the real engine, over a fake world in a file, that kills itself, its engine or both once in each phase, after the phase's work and before its
 * answer is kept. Started again and again by kill.test.ts, with the same arguments, until it prints how the migration ended.
 *
 * Arguments: data directory, health port, victim (control-plane, engine, both, none).
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { openDatabase } from '../../../src/database/client.ts'
import { migrations } from '../../../src/database/tables/migration.ts'
import { isEnded } from '../../../src/domain/operator-actions.ts'
import { sealKeyOf } from '../../../src/secrets/seal.ts'
import { createWorkflows } from '../../../src/workflows/create-workflows.ts'
import { phaseLists, type PhaseLists } from '../../../src/workflows/phase-lists.ts'
import { createFakeClouds, sourceMachineId } from './fake-clouds.ts'
import { createFakeGateway } from './fake-gateway.ts'
import { createFakeWorld } from './fake-world.ts'
import { artifacts, migrationRequest, operator, quickTimings } from './migration-settings-for-tests.ts'

const [dataDirectory = '', healthPort = '', victim = 'none'] = process.argv.slice(2)
const killedPath = join(dataDirectory, 'killed')
const engineDirectory = join(dataDirectory, 'engine', 'journal')

const world = createFakeWorld(join(dataDirectory, 'world.json'))
const { east, west } = createFakeClouds(world, { healthPort: Number(healthPort) })
const database = await openDatabase({ dataDirectory })

const lists: PhaseLists = {
  2: phaseLists[2]!.map((phase) => ({
    ...phase,
    do: async (context) => {
      const outcome = await phase.do(context)
      await killOnce(phase.name)
      return outcome
    },
  })),
}

async function killOnce(phase: string): Promise<void> {
  if (victim === 'none' || (existsSync(killedPath) && readFileSync(killedPath, 'utf8').split('\n').includes(phase))) return
  appendFileSync(killedPath, `${phase}\n`)
  if (victim !== 'control-plane') process.kill(engineProcess(), 'SIGKILL')
  if (victim !== 'engine') process.kill(process.pid, 'SIGKILL')
  // The engine is back before the next phase asks it for anything.
  await new Promise((later) => setTimeout(later, 50))
}

/** Our child that has the journal open. */
function engineProcess(): number {
  const children = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8').trim().split(' ').map(Number)
  const engine = children.find((pid) => readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`RESTATE_BASE_DIR=${engineDirectory}`))
  if (!engine) throw new Error('The engine is not among the children.')
  return engine
}

const workflows = await createWorkflows({
  database,
  gateway: createFakeGateway(world),
  plugins: { connect: async (pluginId) => ({ connection: pluginId === 'east' ? east : west, capabilities: [] }) },
  sealKey: sealKeyOf(Buffer.alloc(32, 7)),
  artifacts,
  engine: 'embedded',
  dataDirectory,
  advertise: [],
  log: (level, message) => level !== 'debug' && process.stderr.write(`${level} ${message}\n`),
  timings: quickTimings,
  phaseLists: lists,
})

const { operations } = workflows
const connect = async (name: string) =>
  (await operations.connectCloud(operator, { idempotencyKey: `connect-${name}`, name, pluginId: name, options: {} })).cloudId
const [eastId, westId] = [await connect('east'), await connect('west')]
const { migrationId } = await operations.startMigration(operator, {
  ...migrationRequest(),
  sourceVirtualMachineId: `${eastId}/${sourceMachineId}`,
  destinationCloudId: westId,
  networkMap: [],
  idempotencyKey: 'start',
})

for (;;) {
  const all = await database.select().from(migrations)
  const migration = all.find(({ id }) => id === migrationId)
  if (migration && isEnded(migration.state)) {
    await workflows.close()
    await database.close()
    process.stdout.write(
      `${JSON.stringify({ migrations: all.length, state: migration.state, error: migration.errorMessage, switchover: migration.switchover })}\n`,
    )
    break
  }
  await new Promise((later) => setTimeout(later, 20))
}
