import { afterEach, beforeEach, expect, test } from 'vitest'
import { clouds } from '../../src/database/tables/cloud.ts'
import { virtualMachines } from '../../src/database/tables/topology.ts'
import { refreshTopology } from '../../src/workflows/topology-refresh.ts'
import { machine, setVerdictStage, type VerdictStage } from './verdict-stage.ts'

let stage: VerdictStage
beforeEach(async () => {
  stage = await setVerdictStage()
  await stage.connect('east')
  stage.east.machines['vm-1'] = machine()
  await refresh(new AbortController().signal)
})
afterEach(() => stage.close())

const refresh = (signal: AbortSignal) => refreshTopology(stage.database, stage.connections, 'east', signal)

/** As one whose packets are dropped: it ends with its caller's patience. */
function hang(): void {
  stage.east.connection.discoverTopology = ({ signal }) =>
    new Promise((_, reject) => {
      if (signal?.aborted) reject(new Error('Cancelled.'))
      signal?.addEventListener('abort', () => reject(new Error('Cancelled.')))
    })
}

test('a cloud that hangs is unreachable once the time-out has passed, and nobody knows what runs there', async () => {
  hang()
  await expect(refresh(AbortSignal.any([new AbortController().signal, AbortSignal.timeout(1)]))).rejects.toMatchObject({
    code: 'TIMED_OUT',
    retryable: true,
  })
  expect(await stage.database.select().from(clouds)).toMatchObject([{ state: 'UNREACHABLE', problem: expect.stringContaining('in time') }])
  expect(await stage.database.select().from(virtualMachines)).toMatchObject([{ present: true, power: 'UNKNOWN' }])
})

test('a read that its caller gives up says nothing of the cloud', async () => {
  hang()
  await expect(refresh(AbortSignal.abort(new Error('The control plane is ending.')))).rejects.toThrow('The control plane is ending.')
  expect(await stage.database.select().from(clouds)).toMatchObject([{ state: 'CONNECTED' }])
  expect(await stage.database.select().from(virtualMachines)).toMatchObject([{ present: true, power: 'RUNNING' }])
})
