import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { blockBytes, differingBlocks } from '../support/compare-disks.ts'
import { inGuest } from '../support/in-guest.ts'
import { diskImage, hasEnded, openScenario, type ScenarioMigration, type ScenarioSite } from '../support/scenario-site.ts'

/** A VM keeps 80 MiB that nobody needs in its new place. What is said of the images is read from them, on this machine, while both disks stand still. */
const mebibyte = 1024 * 1024
const cache = '/srv/build cache'
const run = promisify(execFile)

let scenario: ScenarioSite
let destinationVmId: string
let moved: ScenarioMigration
let differing: number[]
let cached: Set<number>

/** Sectors of the disk that hold a file's data, as the file system's own tool reads them from the image. */
async function sectorsOf(image: string, path: string): Promise<Set<number>> {
  const { stdout } = await run('sfdisk', ['--json', image])
  const [{ start }] = (JSON.parse(stdout) as { partitiontable: { partitions: [{ start: number }] } }).partitiontable.partitions
  const fileSystem = `${image}?offset=${start * 512}`
  const sectorsPerBlock = Number(/^Block size: +(\d+)$/m.exec((await run('dumpe2fs', ['-h', fileSystem])).stdout)![1]) / 512
  const shown = await run('debugfs', ['-R', `blocks "${path}"`, fileSystem], { maxBuffer: 16 * mebibyte })
  const blocks = shown.stdout.trim().split(/\s+/).map(Number)
  return new Set(blocks.flatMap((block) => Array.from({ length: sectorsPerBlock }, (_, index) => start + block * sectorsPerBlock + index)))
}

beforeAll(async () => {
  scenario = await openScenario({ from: 'east' })
  await inGuest(
    scenario.source,
    scenario.vm.vmId,
    `mkdir -m 1733 "${cache}"; cd "${cache}"; dd if=/dev/urandom of=objects bs=1M count=80; echo small >note; echo kept >/srv/kept; sync`,
  )
  const { migration, message } = await scenario.start({ excludedDirectories: [cache, '/srv/not there'] })
  expect(message).toBeUndefined()
  const sealed = await scenario.until(
    migration!.id,
    (present) => ['FIX_UP_GUEST', 'BOOT_DESTINATION', 'HEALTH_CHECK'].includes(present.phase) || hasEnded(present),
  )
  expect(sealed).toMatchObject({ state: 'RUNNING', error: null })
  const { virtualMachines } = await scenario.destination.connection.discoverTopology({})
  destinationVmId = virtualMachines.find(({ uniqueId }) => uniqueId === scenario.vm.uniqueId)!.id
  const image = await diskImage(scenario.source, scenario.vm.vmId)
  differing = await differingBlocks(image, await diskImage(scenario.destination, destinationVmId))
  cached = await sectorsOf(image, `${cache}/objects`)
  moved = await scenario.until(migration!.id, hasEnded)
})
afterAll(() => scenario?.close())

test('the migration completes with equal roots, and what was left out was not sent', () => {
  expect(moved).toMatchObject({ state: 'COMPLETED', verified: true, error: null })
  expect(moved.sourceRoot).toBe(moved.destinationRoot)
  expect(differing.length * blockBytes).toBeGreaterThan(75 * mebibyte)
  const [first] = moved.rounds.nodes
  expect(Number(moved.diskBytes) - Number(first!.changedBytes)).toBeGreaterThan(75 * mebibyte)
})

test('from outside, the images differ in nothing but blocks that hold only excluded data', () => {
  const sectors = blockBytes / 512
  const holdsMore = (block: number) =>
    Array.from({ length: sectors }, (_, index) => block * sectors + index).some((sector) => !cached.has(sector))
  expect(differing.filter(holdsMore)).toEqual([])
})

test('in its new place the directory is there, with owner and mode, and empty; everything else is there', async () => {
  const seen = await inGuest(scenario.destination, destinationVmId, `ls -A "${cache}"; stat -c %a:%u "${cache}"; cat /srv/kept`)
  expect(seen).toBe('1733:0\nkept')
})
