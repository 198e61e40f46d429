/** What is at the edge of what a job may be, on real children: no memory left for more of them, a program that prints without end, a hundred thousand tasks. */
import { freemem } from 'node:os'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { shippedParents } from '../../setup/parent-images.ts'
import { openJobSite, type JobSite } from '../support/job-site.ts'

const mebibyte = 2 ** 20
let site: JobSite
let parentVmId: string

beforeAll(async () => {
  site = await openJobSite()
  parentVmId = await site.parent('node', { ...shippedParents.node, memoryBytes: 192 * mebibyte, cpuCount: 1 })
})
afterAll(() => site?.close())

const events = async (jobId: string) => {
  const { job } = await site
    .api()
    .run<{ job: { events: { nodes: { message: string }[] } } }>(
      `query E($id: ID!) { job(id: $id) { events(first: 100) { nodes { message } } } }`,
      { id: jobId },
    )
  return job.events.nodes.map(({ message }) => message).join('\n')
}

test('where memory is left for few children, these are forked, the job says how many fit and why, and it is done', async () => {
  const large = Math.floor(freemem() / 3.5 / mebibyte) * mebibyte
  const parent = await site.parent('large', { ...shippedParents.node, memoryBytes: large, cpuCount: 1 })
  const { job, message } = await site.submit({
    requirements: { runtime: 'NODE', parentVmId: parent },
    program: 'module.exports = async (n) => n',
    tasks: Array.from({ length: 30 }, (_, index) => ({ input: index })),
    children: 30,
  })
  expect(message).toBeUndefined()
  const ended = await site.until(job!.id, ({ state }) => state === 'SUCCEEDED')
  expect(ended.done).toBe(30)
  const children = ended.children.nodes.length
  expect(children).toBeGreaterThan(0)
  expect(children).toBeLessThan(5)
  expect(await events(job!.id)).toMatch(new RegExp(`for ${children} child(ren)? \\(30 were asked for: .*MiB left`))
  expect(await site.childProcesses()).toEqual([])
})

test('a task that prints 100 MiB keeps the beginning of it, and the other tasks are done', async () => {
  const { job } = await site.submit({
    requirements: { runtime: 'NODE', parentVmId },
    program: `module.exports = async (n) => { if (n === 0) for (let i = 0; i < 100; i++) console.log('x'.repeat(1 << 20)); return n }`,
    tasks: Array.from({ length: 10 }, (_, index) => ({ input: index })),
    children: 2,
    taskTimeoutMs: 240_000,
  })
  const ended = await site.until(job!.id, ({ state }) => state === 'SUCCEEDED', 300_000)
  expect(ended.done).toBe(10)
  const { job: told } = await site
    .api()
    .run<{ job: { tasks: { nodes: { log: string; logTruncated: boolean }[] } } }>(
      `query L($id: ID!) { job(id: $id) { tasks(first: 1) { nodes { log logTruncated } } } }`,
      { id: job!.id },
    )
  const { log, logTruncated } = told.tasks.nodes[0]!
  expect(logTruncated).toBe(true)
  expect(log.length).toBeGreaterThan(60_000)
  expect(log.length).toBeLessThanOrEqual(65_536)
})

const many = process.env['PORTOLAN_TEST_FULL'] ? 100_000 : 5_000

test(`a job of ${many} tasks gives each output once, in order`, async () => {
  const { job, message } = await site.submit({
    requirements: { runtime: 'NODE', parentVmId },
    program: 'module.exports = async (n) => n * 2',
    tasks: Array.from({ length: many }, (_, index) => ({ input: index })),
    children: 4,
  })
  expect(message).toBeUndefined()
  await site.until(job!.id, ({ state }) => state === 'SUCCEEDED', 1_200_000)
  const outputs = await site.outputs(job!.id)
  expect(outputs).toHaveLength(many)
  expect(outputs.every(({ index, output }, place) => index === place && output === 2 * place)).toBe(true)
}, 1_300_000)
