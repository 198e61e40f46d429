/** Jobs at a cloud that can't fork: their children boot there the ordinary way. */
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { shippedParents } from '../../setup/parent-images.ts'
import { killControlPlane } from '../support/kill.ts'
import { openJobSite, type JobSite } from '../support/job-site.ts'

let site: JobSite
let west: string
let node: string
const recipe = { memoryBytes: 201_326_592, cpuCount: 1 }

beforeAll(async () => {
  site = await openJobSite(null)
  west = await site.connectLibvirt('west')
  node = await site.parent('node', { ...shippedParents.node, ...recipe, warmUp: "globalThis.words = require('lodash').chunk([1, 2], 1)" })
})
afterAll(() => site?.close())

const tasks = (count: number) => Array.from({ length: count }, (_, index) => ({ input: index }))
/** Process ids of all virtual machines in this network namespace, that are children which boot. */
async function machines(): Promise<number[]> {
  const found: number[] = []
  for (const entry of await readdir('/proc')) {
    const words = /^\d+$/.test(entry) ? await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '') : ''
    if (words.startsWith('/usr/bin/qemu') && words.includes('portolan-child-')) found.push(Number(entry))
  }
  return found
}
async function interfaces(): Promise<string[]> {
  const { stdout } = await promisify(execFile)('ip', ['-brief', 'link'])
  return stdout.split('\n').flatMap((line) => line.split(/\s+/)[0] || [])
}

test('children boot and warm up by themselves, the API says so, and nothing is left of them', async () => {
  const before = await interfaces()
  const { parentVm } = await site
    .api()
    .run<{ parentVm: { copies: { childOrigin: string; bootMs: number; memoryBytes: number | null }[] } }>(
      `query P($id: ID!) { parentVm(id: $id) { copies { childOrigin bootMs memoryBytes } } }`,
      { id: node },
    )
  expect(parentVm.copies).toEqual([{ childOrigin: 'BOOTED', bootMs: expect.any(Number) as number, memoryBytes: null }])
  const job = await site.run({
    program: `module.exports = async (n, context) => { await context.barrier('all', 2); return [words.length, n, require('os').hostname(), require('crypto').randomUUID()] }`,
    tasks: tasks(2),
    children: 2,
  })
  expect(job.problem).toBeNull()
  expect(job.children.nodes.map(({ origin, state }) => [origin, state])).toEqual([
    ['BOOTED', 'DELETED'],
    ['BOOTED', 'DELETED'],
  ])
  const outputs = job.outputs as [number, number, string, string][]
  expect(outputs.map(([words, n]) => [words, n])).toEqual([
    [2, 0],
    [2, 1],
  ])
  for (const place of [2, 3]) expect(new Set(outputs.map((output) => output[place]))).toHaveProperty('size', 2)
  expect(await machines()).toEqual([])
  expect(await interfaces()).toEqual(before)
})

test('a child is killed, then the control plane: another one boots in its place, and each result counts once', async () => {
  const { job } = await site.submit({
    program: 'module.exports = async (n) => { const end = Date.now() + 500; while (Date.now() < end); return n }',
    tasks: tasks(30),
    children: 1,
  })
  await site.until(job!.id, ({ done }) => done >= 3)
  process.kill((await machines())[0]!, 'SIGKILL')
  await site.until(job!.id, ({ children }) => children.nodes.some(({ state }) => state === 'LOST'))
  const { done } = await site.until(job!.id, ({ children }) => children.nodes.some(({ state }) => state === 'BUSY'))
  await site.until(job!.id, (now) => now.done > done)
  const before = await machines()
  await killControlPlane(site.controlPlane())
  await site.restartControlPlane()
  const ended = await site.until(job!.id, ({ state }) => state === 'SUCCEEDED', 180_000)
  expect(ended.done).toBe(30)
  expect((await site.outputs(job!.id)).map(({ output }) => output)).toEqual(Array.from({ length: 30 }, (_, index) => index))
  expect((await machines()).filter((pid) => before.includes(pid))).toEqual([])
  expect(await machines()).toEqual([])
})

test('Python boots, too; what nobody would bound there is refused with the reason', async () => {
  await site.parent('python', { ...shippedParents.python, ...recipe, warmUp: 'import numpy' })
  const requirements = { runtime: 'PYTHON' }
  const program = 'import numpy\ndef run(input, context):\n    return int(numpy.arange(input + 1).sum())'
  const job = await site.run({ requirements, program, tasks: tasks(3), children: 1 })
  expect(job.outputs).toEqual([0, 1, 3])
  const bounded = await site.run({ requirements, program, tasks: tasks(1), privileges: { cpuShare: 0.5 } })
  expect(bounded).toMatchObject({
    state: 'FAILED',
    problem: { code: 'NO_PARENT_MATCHES', message: expect.stringContaining('booted') as string },
  })
})

test('a job over a cloud that forks and one that does not: its tasks meet; without naming clouds it is forked alone', async () => {
  const east = await site.connect('east')
  const parentVmId = await site.parent('everywhere', { ...shippedParents.node, ...recipe })
  const requirements = { runtime: 'NODE', parentVmId }
  const program = "module.exports = async (n, context) => { await context.barrier('all', 2); return require('os').hostname() }"
  const over = await site.run({ requirements, program, tasks: tasks(2), children: 2, cloudIds: [east, west] })
  expect(over.problem).toBeNull()
  expect(over.children.nodes.map(({ origin, cloud }) => [cloud.name, origin]).toSorted((a, b) => a.join().localeCompare(b.join()))).toEqual(
    [
      ['east', 'FORKED'],
      ['west', 'BOOTED'],
    ],
  )
  const alone = await site.run({ requirements, program, tasks: tasks(2), children: 2 })
  expect(alone.children.nodes.map(({ origin }) => origin)).toEqual(['FORKED', 'FORKED'])
  expect(await machines()).toEqual([])
})
