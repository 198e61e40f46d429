/**
 * A control plane with the real engine that runs a group, and kills itself at a write of its database. Started again and again by group-kill.test.ts, with the same data
 * directory, until it prints how the group ended.
 *
 * Arguments: data directory, number of the write to die at, counted from the start of this life (0: none), before or after (its effect).
 */
import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { openDatabase, type Database } from '../../../src/database/client.ts'
import { clouds } from '../../../src/database/tables/cloud.ts'
import { migrations } from '../../../src/database/tables/migration.ts'
import { readGroup } from '../../../src/workflows/group-facts.ts'
import { member, openControlPlane, storeMachines } from './group-stage.ts'
import { operator } from './migration-settings-for-tests.ts'

const [dataDirectory = '', fatalWrite = '0', when = 'before'] = process.argv.slice(2)
const tell = (line: string) => appendFileSync(join(dataDirectory, 'told'), `${line}\n`)

const database = await openDatabase({ dataDirectory })
if ((await database.$count(clouds)) === 0) await storeMachines(database, 6)

let writes = 0
async function fatal<T>(work: () => Promise<T>): Promise<T> {
  const mine = ++writes === Number(fatalWrite)
  if (mine && when === 'before') process.kill(process.pid, 'SIGKILL')
  const result = await work()
  if (mine) process.kill(process.pid, 'SIGKILL')
  return result
}
const mortal: Database = {
  ...database,
  write: (...args) => fatal(() => database.write(...args)),
  transaction: (...args) => fatal(() => database.transaction(...args)),
}

const { operations, close } = await openControlPlane(mortal, dataDirectory, {
  async copy(machine, { signal }) {
    tell(`copy ${machine}`)
    signal.throwIfAborted()
    if (machine === 4) throw new Error('Machine 4 fails.')
  },
  cutOver: async (machine) => tell(`cut over ${machine}`),
})
await operations.setConcurrencyLimits(operator, { idempotencyKey: 'limits', limits: [{ scope: 'CLOUD', subject: null, limit: 2 }] })
const { migrationGroupId } = await operations.createMigrationGroup(operator, {
  idempotencyKey: 'create',
  name: 'wave',
  cutoverPolicy: 'AUTOMATIC',
  members: [member(3, [2]), member(2, [0, 1]), member(1), member(0), member(4), member(5, [4])],
})
await operations.startMigrationGroup(operator, { idempotencyKey: 'start', migrationGroupId })

for (;;) {
  const { group, members } = (await readGroup(database, migrationGroupId))!
  if (group.endedAt) {
    await close()
    const states = Object.fromEntries(members.map(({ name, state }) => [name, state]))
    const moved = (await database.select().from(migrations)).map(({ sourceVirtualMachineId }) => sourceVirtualMachineId)
    process.stdout.write(`${JSON.stringify({ state: group.state, states, startedTwice: moved.length - new Set(moved).size })}\n`)
    await database.close()
    break
  }
  await new Promise((later) => setTimeout(later, 20))
}
