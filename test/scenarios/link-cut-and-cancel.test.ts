import { randomUUID } from 'node:crypto'
import { execFile } from 'node:child_process'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { networkInterfaces, setBridgePorts } from '../support/bridge-ports.ts'
import { inGuest, tracesInSource } from '../support/in-guest.ts'
import { diskImage, hasEnded, openScenario, type ScenarioSite } from '../support/scenario-site.ts'

/** One busy source VM, whose migrations are paused, cut off and cancelled in the middle of a round. However each ends, the source goes on; the copy is kept, off, and nothing else. */
let scenario: ScenarioSite
let before: Awaited<ReturnType<typeof everything>>
let id: string
const linkMs = 30_000

beforeAll(async () => {
  scenario = await openScenario({ from: 'east', agents: { lostAfterMs: linkMs } })
  before = await everything()
})
afterEach(() => setBridgePorts('up').catch(() => {}))
afterAll(() => scenario?.close())

/** All that a migration makes outside its own records: at the destination, on this machine, and in the source. */
async function everything() {
  const pool = join(scenario.directory, 'site', 'libvirt', 'pool')
  const uri = String(scenario.destination.options['uri'])
  const virsh = async (...list: string[]) => (await promisify(execFile)('virsh', ['--connect', uri, ...list])).stdout.trim().split('\n')
  return {
    domains: await virsh('list', '--all', '--uuid'),
    networks: await virsh('net-list', '--all', '--name'),
    volumes: await readdir(pool),
    interfaces: await networkInterfaces(),
    inSource: (await inGuest(scenario.source, scenario.vm.vmId, tracesInSource)).split('\n'),
  }
}

async function theCopyIsKeptUntilItIsDiscarded() {
  const { virtualMachines } = await scenario.destination.connection.discoverTopology({})
  expect(virtualMachines.map(({ uniqueId, power }) => ({ uniqueId, power }))).toEqual([
    { uniqueId: scenario.vm.uniqueId, power: 'STOPPED' },
  ])
  await steer('discardMigration')
  await scenario.until(id, hasEnded)
}

async function nothingIsLeftAndTheSourceGoesOn() {
  // What clears up in the guest after the agent looks once a second.
  await vi.waitFor(async () => expect(await everything()).toEqual(before), { timeout: 120_000, interval: 1_000 })
  expect((await scenario.source.connection.virtualMachines.describe({ vmId: scenario.vm.vmId })).power).toBe('RUNNING')
  await recordsAreAcknowledged()
  const acknowledged = scenario.records.acknowledged()
  expect(await scenario.records.count()).toBeGreaterThanOrEqual(acknowledged)
}

async function recordsAreAcknowledged() {
  const soFar = scenario.records.acknowledged()
  await expect.poll(() => scenario.records.acknowledged(), { timeout: 120_000 }).toBeGreaterThan(soFar + 3)
}

async function startUntilMidRound() {
  // The cutover never comes by itself, however fast the machine.
  const { migration } = await scenario.start({ cutoverPolicy: 'MANUAL' })
  id = migration!.id
  await inMidRound()
}

const inMidRound = () => scenario.until(id, ({ currentRound: round }) => round?.state === 'RUNNING' && Number(round.scannedBytes) > 0)

async function steer(mutation: 'pauseMigration' | 'resumeMigration' | 'cancelMigration' | 'discardMigration') {
  const name = mutation[0]!.toUpperCase() + mutation.slice(1)
  const document = `mutation Steer($input: ${name}Input!) { ${mutation}(input: $input) { __typename ... on Error { message } } }`
  const answer = await scenario.api().run(document, { input: { idempotencyKey: randomUUID(), migrationId: id } })
  expect(answer).toEqual({ [mutation]: { __typename: `${name}Success` } })
}

async function destinationDiskWrittenAt(): Promise<number> {
  const { virtualMachines } = await scenario.destination.connection.discoverTopology({})
  const destination = virtualMachines.find(({ uniqueId }) => uniqueId === scenario.vm.uniqueId)
  return (await stat(await diskImage(scenario.destination, destination!.id))).mtimeMs
}

test('paused in the middle of a round, nothing is written at the destination any more, and the source goes on', async () => {
  await startUntilMidRound()
  await steer('pauseMigration')
  await scenario.until(id, ({ state }) => state === 'PAUSED')
  const writtenAt = await destinationDiskWrittenAt()
  await recordsAreAcknowledged()
  expect(await destinationDiskWrittenAt()).toBe(writtenAt)
})

test('resumed, and cut off for 5 s in the middle of a round, it goes on where it was', async () => {
  await steer('resumeMigration')
  await inMidRound()
  await setBridgePorts('down')
  await delay(5_000)
  const { currentRound: cut } = await scenario.migration(id)
  await setBridgePorts('up')
  const later = await scenario.until(id, ({ currentRound: round, state }) => {
    const further = round!.round > cut!.round || Number(round!.scannedBytes) > Number(cut!.scannedBytes)
    return further || state !== 'RUNNING'
  })
  expect(later).toMatchObject({ state: 'RUNNING', error: null })
  expect(later.rounds.nodes.find(({ round }) => round === cut!.round)!.state).not.toBe('FAILED')
})

test('cancel left the transfer running: cancelled while it copies, it stands still once that is answered, and leaves nothing but its copy', async () => {
  await steer('cancelMigration')
  expect(await scenario.migration(id)).toMatchObject({ state: 'CANCELLED' })
  await theCopyIsKeptUntilItIsDiscarded()
  await nothingIsLeftAndTheSourceGoesOn()
})

test('stuck for ever without a time-out: cut off for good, it fails with an error that says so, and leaves nothing but its copy', async () => {
  await startUntilMidRound()
  // The destination is booted again, with a new cable.
  const cutting = setInterval(() => void setBridgePorts('down').catch(() => {}), 200)
  onTestFinished(() => clearInterval(cutting))
  const failed = await scenario.until(id, hasEnded, 550_000)
  clearInterval(cutting)
  expect(failed).toMatchObject({ state: 'FAILED', error: { code: 'AGENT_UNREACHABLE' } })
  expect(failed.error!.message).toMatch(/\d+ (s|ms)\b/)
  await theCopyIsKeptUntilItIsDiscarded()
  await nothingIsLeftAndTheSourceGoesOn()
})
