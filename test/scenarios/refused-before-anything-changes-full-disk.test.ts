import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { connectCloud, validateMigration } from '../../src/cli/demo-documents.ts'
import { workloadEndpoint } from '../../src/cli/demo-migration.ts'
import { inGuest } from '../support/in-guest.ts'
import { hasEnded, openScenario, type ScenarioSite } from '../support/scenario-site.ts'

/**
 * A destination on a small file system: refused at pre-flight where that can be known, else a typed failure with everything undone. And a guest whose kernel keeps tracefs shut:
 * said at pre-flight, and the move works all the same.
 */

const run = promisify(execFile)
const mebibyte = 1024 * 1024

let scenario: ScenarioSite
const mounts: string[] = []
beforeAll(async () => void (scenario = await openScenario()))
afterAll(async () => {
  await scenario?.close()
  for (const mount of mounts) {
    await run('umount', ['--lazy', mount])
    await rm(mount, { recursive: true, force: true })
  }
})

/** A qemu cloud whose machines lie on a file system of its own. */
async function cloudOn(sizeBytes: number, name: string): Promise<{ stateDirectory: string; destinationCloudId: string }> {
  const stateDirectory = `${scenario.directory}-${name}`
  await mkdir(stateDirectory)
  await run('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'small-disk', stateDirectory])
  mounts.push(stateDirectory)
  const input = { idempotencyKey: randomUUID(), name, pluginId: 'qemu', options: { stateDirectory } }
  const { connectCloud: connected } = await scenario
    .api()
    .run<{ connectCloud: { cloud?: { id: string }; message?: string } }>(connectCloud, { input })
  if (!connected.cloud) throw new Error(connected.message)
  return { stateDirectory, destinationCloudId: connected.cloud.id }
}

async function findings(request: { destinationCloudId?: string } = {}) {
  const { clouds } = await scenario.api().run<{
    clouds: { nodes: { id: string; name: string; virtualMachines: { nodes: { id: string; uniqueId: string }[] } }[] }
  }>('{ clouds(first: 10) { nodes { id name virtualMachines(first: 10) { nodes { id uniqueId } } } } }')
  const input = {
    idempotencyKey: randomUUID(),
    sourceVirtualMachineId: clouds.nodes
      .find(({ name }) => name === 'east')!
      .virtualMachines.nodes.find(({ uniqueId }) => uniqueId === scenario.vm.uniqueId)!.id,
    destinationCloudId: clouds.nodes.find(({ name }) => name === 'west')!.id,
    permittedDowntimeMs: 300_000,
    healthCheck: { http: { port: 8080 } },
    ...request,
  }
  const answered = await scenario
    .api()
    .run<{ validateMigration: { findings: { code: string; severity: string; message: string }[] } }>(validateMigration, { input })
  return answered.validateMigration.findings
}

async function expectSourceWrites(): Promise<void> {
  const acknowledged = scenario.records.acknowledged()
  expect((await scenario.source.connection.virtualMachines.describe({ vmId: scenario.vm.vmId })).power).toBe('RUNNING')
  await expect.poll(() => scenario.records.acknowledged(), { timeout: 60_000 }).toBeGreaterThan(acknowledged)
}

test('a file system that is too small is found at pre-flight', async () => {
  const { stateDirectory, destinationCloudId } = await cloudOn(256 * mebibyte, 'small')
  expect(await findings({ destinationCloudId })).toContainEqual(
    expect.objectContaining({ code: 'DESTINATION_DISK_TOO_SMALL', severity: 'BLOCKER' }),
  )
  const { migration } = await scenario.start({ destinationCloudId })
  expect(await scenario.until(migration!.id, ({ state }) => state === 'FAILED')).toMatchObject({ error: { code: 'PRE_FLIGHT_FAILED' } })
  expect(await readdir(join(stateDirectory, 'machines'))).toEqual([])
  await expectSourceWrites()
})

test('a file system that others fill up during the copy: the migration fails, and what was copied is kept, off, until it is discarded', async () => {
  const { stateDirectory, destinationCloudId } = await cloudOn(1024 * mebibyte, 'filling')
  const { migration } = await scenario.start({ destinationCloudId })
  await scenario.until(migration!.id, ({ phase, state }) => phase === 'CONNECT_AGENTS' || state === 'FAILED')
  const { stdout } = await run('df', ['--output=avail', '-B1', stateDirectory])
  await run('fallocate', ['-l', stdout.trim().split('\n')[1]!.trim(), join(stateDirectory, 'somebody-elses')])

  const ended = await scenario.until(migration!.id, ({ state }) => !['PENDING', 'RUNNING'].includes(state))
  expect(ended).toMatchObject({
    state: 'FAILED',
    error: { code: 'INSUFFICIENT_CAPACITY', message: expect.stringMatching(/destination.*\./), remedy: expect.stringMatching(/Free/) },
  })
  expect(await readdir(join(stateDirectory, 'machines'))).toHaveLength(1)
  const discard = `mutation Discard($input: DiscardMigrationInput!) { discardMigration(input: $input) { ... on Error { message } } }`
  const input = { idempotencyKey: randomUUID(), migrationId: migration!.id }
  expect(await scenario.api().run(discard, { input })).toEqual({ discardMigration: {} })
  await scenario.until(migration!.id, hasEnded)
  expect(await readdir(join(stateDirectory, 'machines'))).toEqual([])
  expect(await inGuest(scenario.source, scenario.vm.vmId, 'ls -d /run/portolan-agent 2>/dev/null || true')).toBe('')
  await expectSourceWrites()
})

test('a guest whose kernel keeps tracefs shut: a warning at pre-flight, rounds that rescan, and a verified move', async () => {
  await inGuest(
    scenario.source,
    scenario.vm.vmId,
    'mount -t securityfs none /sys/kernel/security 2>/dev/null; echo confidentiality >/sys/kernel/security/lockdown',
  )
  expect(await findings()).toContainEqual(
    expect.objectContaining({ code: 'NO_TRACEFS', severity: 'WARNING', message: expect.stringContaining('rounds will rescan') }),
  )

  const { migration } = await scenario.start()
  const ended = await scenario.until(migration!.id, ({ state }) => !['PENDING', 'RUNNING'].includes(state))
  expect(ended).toMatchObject({ state: 'COMPLETED', verified: true, error: null })
  const { migration: told } = await scenario
    .api()
    .run<{ migration: { trackingMode: string; findings: { code: string }[] } }>(
      'query ($id: ID!) { migration(id: $id) { trackingMode findings { code } } }',
      { id: migration!.id },
    )
  expect(told.trackingMode).toBe('RESCAN')
  expect(told.findings).toContainEqual({ code: 'ROUNDS_RESCAN' })
  scenario.records.moveTo(workloadEndpoint(ended, 8080))
  await scenario.records.stop()
  expect(await scenario.records.count()).toBe(scenario.records.acknowledged())
})
