/** Jobs on real children, forked from a real parent with Debian's Node in it, through the API alone. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { shippedParents } from '../../setup/parent-images.ts'
import { killControlPlane, killEngine } from '../support/kill.ts'
import { openJobSite, type JobSite } from '../support/job-site.ts'

let site: JobSite

beforeAll(async () => {
  site = await openJobSite()
  await site.parent('node', recipe)
})
afterAll(() => site?.close())

/** What `node` is made of. */
const recipe = {
  ...shippedParents.node,
  warmUp: "require('lodash'); Math.random(); require('crypto').randomUUID()",
  memoryBytes: 201_326_592,
  cpuCount: 1,
}

const tasks = (count: number, input: (index: number) => unknown = (index) => index) =>
  Array.from({ length: count }, (_, index) => ({ input: input(index) }))

test('a job of many tasks runs in the warmed runtime of several children, and gives one output in order', async () => {
  const job = await site.run({
    program: "const { chunk } = require('lodash')\nmodule.exports = async (input) => chunk([input, input * input, 0], 2)[0]",
    tasks: tasks(300),
    children: 3,
  })
  expect(job).toMatchObject({ state: 'SUCCEEDED', done: 300 })
  expect(job.outputs).toEqual(Array.from({ length: 300 }, (_, index) => [index, index * index]))
  expect(job.children.nodes.map(({ state }) => state)).toEqual(['DELETED', 'DELETED', 'DELETED'])
  expect(await site.childProcesses()).toEqual([])
})

test('twenty siblings draw different random numbers, identifiers and keys inside the warmed runtime', async () => {
  const children = 20
  const job = await site.run({
    // Each waits for the others, so that every one of them runs in a child of its own.
    program: `const crypto = require('crypto'); const { promisify } = require('util')
      module.exports = async (index, context) => {
        await context.barrier('all', ${children})
        const { publicKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256', publicKeyEncoding: { type: 'spki', format: 'pem' }, privateKeyEncoding: { type: 'pkcs8', format: 'pem' } })
        return {
          math: Math.random(), uuid: crypto.randomUUID(), bytes: crypto.randomBytes(16).toString('hex'),
          pooled: (await promisify(crypto.randomBytes)(16)).toString('hex'), int: crypto.randomInt(2 ** 47),
          key: publicKey, kernel: require('fs').readFileSync('/proc/sys/kernel/random/uuid', 'utf8'), host: require('os').hostname(),
          machine: require('fs').readFileSync('/etc/machine-id', 'utf8'), clock: Math.abs(Date.now() - ${Date.now()}) < 600_000,
        }
      }`,
    tasks: tasks(children),
    children,
  })
  expect(job.problem).toBeNull()
  const drawn = job.outputs as Record<string, unknown>[]
  for (const source of ['math', 'uuid', 'bytes', 'pooled', 'int', 'key', 'kernel', 'host', 'machine'])
    expect(new Set(drawn.map((output) => output[source])), source).toHaveProperty('size', children)
  expect(drawn.every(({ clock }) => clock === true)).toBe(true)
})

test('Python with NumPy computes, and its siblings draw different numbers, identifiers and keys', async () => {
  const children = 4
  await site.parent('python', {
    ...shippedParents.python,
    warmUp: 'import numpy\nnumpy.random.random()',
    memoryBytes: 201_326_592,
    cpuCount: 1,
  })
  const job = await site.run({
    requirements: { runtime: 'PYTHON', libraries: [{ name: 'numpy' }] },
    program: `import random, ssl, uuid, numpy
def run(input, context):
    context.barrier('all', ${children})
    return {'sum': int(numpy.arange(input + 1).sum()), 'numpy': float(numpy.random.random()), 'random': random.random(),
            'uuid': str(uuid.uuid4()), 'node': str(uuid.uuid1()), 'ssl': ssl.RAND_bytes(16).hex()}`,
    tasks: tasks(children),
    children,
  })
  expect(job.problem).toBeNull()
  const drawn = job.outputs as Record<string, unknown>[]
  expect(drawn.map(({ sum }) => sum)).toEqual([0, 1, 3, 6])
  for (const source of ['numpy', 'random', 'uuid', 'node', 'ssl'])
    expect(new Set(drawn.map((output) => output[source])), source).toHaveProperty('size', children)
})

test('children that stand ready are used by the next job, survive a kill of the control plane, and are siblings like all others', async () => {
  const parentVmId = await site.parent('node', recipe, 3)
  const standing = (count: number) => vi.waitFor(async () => expect(await site.childProcesses()).toHaveLength(count), 20_000)
  await standing(3)
  const before = await site.childProcesses()
  await killControlPlane(site.controlPlane())
  await site.restartControlPlane()
  const job = await site.run({
    requirements: { runtime: 'NODE', parentVmId },
    program: `module.exports = async (n, context) => { await context.barrier('all', 4); return require('crypto').randomUUID() + require('os').hostname() }`,
    tasks: tasks(4),
    children: 4,
  })
  expect(job.problem).toBeNull()
  expect(new Set(job.outputs)).toHaveProperty('size', 4)
  expect(job.children.nodes.filter(({ wasPaused }) => wasPaused)).not.toEqual([])
  await standing(3)
  expect((await site.childProcesses()).filter((pid) => before.includes(pid)).length).toBeLessThan(3)
  await site.parent('node', recipe, 0)
  await standing(0)
})

describe('what dies on the way', () => {
  const slow = {
    program: 'module.exports = async (n) => { const end = Date.now() + 250; while (Date.now() < end); return n }',
    children: 2,
  }

  test('a child that is killed costs the tasks in flight, and each result counts once', async () => {
    const { job } = await site.submit({ ...slow, tasks: tasks(40) })
    await site.until(job!.id, ({ done }) => done >= 5)
    process.kill((await site.childProcesses())[0]!, 'SIGKILL')
    const ended = await site.until(job!.id, ({ state }) => state === 'SUCCEEDED')
    expect(ended.done).toBe(40)
    expect(ended.children.nodes.filter(({ state }) => state === 'LOST')).toHaveLength(1)
    expect((await site.outputs(job!.id)).map(({ output }) => output)).toEqual(Array.from({ length: 40 }, (_, index) => index))
  })

  test('the control plane and its engine: the job goes on by itself, and no child of before is left', async () => {
    const { job } = await site.submit({ ...slow, tasks: tasks(40) })
    await site.until(job!.id, ({ done }) => done >= 5)
    const before = await site.childProcesses()
    await killEngine(site.controlPlane())
    await killControlPlane(site.controlPlane())
    await site.restartControlPlane()
    const ended = await site.until(job!.id, ({ state }) => state === 'SUCCEEDED')
    expect(ended.done).toBe(40)
    await vi.waitFor(async () => expect(await site.job(job!.id)).toMatchObject({ parentUnchanged: true }), {
      timeout: 30_000,
      interval: 250,
    })
    expect((await site.childProcesses()).filter((pid) => before.includes(pid))).toEqual([])
    expect(await site.childProcesses()).toEqual([])
  })
})

test('a control plane that is killed while a parent VM is being built builds it anew, and nothing of the first is left', async () => {
  const id = await site.register('interrupted', { ...recipe, warmUp: 'globalThis.x = 1' })
  await vi.waitFor(async () => expect(await site.parentProcesses()).toHaveLength(1), 30_000)
  const [first] = await site.parentProcesses()
  await killControlPlane(site.controlPlane())
  await site.restartControlPlane()
  expect(await site.parent('interrupted', { ...recipe, warmUp: 'globalThis.x = 1' })).toBe(id)
  expect(await site.parentProcesses()).toEqual([])
  const requirements = { runtime: 'NODE', parentVmId: id }
  const job = await site.run({ requirements, program: 'module.exports = async () => x', tasks: tasks(1) })
  expect(job.outputs).toEqual([1])
  expect(() => process.kill(first!, 0)).toThrow()
})

describe('a program', () => {
  test('that does not parse is refused by the first child, with the line', async () => {
    const job = await site.run({ program: 'module.exports = async () => {\n  return 1 +\n}', tasks: tasks(3), children: 2 })
    expect(job).toMatchObject({
      state: 'FAILED',
      problem: { code: 'PROGRAM_FAILED', message: expect.stringContaining('SyntaxError') as string },
    })
  })

  test('that loops for ever fails by its task, within its time', async () => {
    const job = await site.run({
      program: 'module.exports = async (n) => { while (n === 1); return n }',
      tasks: tasks(3),
      children: 2,
      taskTimeoutMs: 1_000,
      onPoisonTask: 'SKIP',
    })
    expect(job).toMatchObject({ state: 'SUCCEEDED', done: 2 })
    expect(job.outputs).toEqual([0, null, 2])
  })

  test('that ends its runtime, fills its memory or its disk, or forks without end harms no other task', async () => {
    const deeds = [
      "require('child_process').execFileSync('/bin/sh', ['-c', 'kill -9 1 ' + process.pid])",
      'const all = []; for (;;) all.push(Buffer.alloc(1 << 24, 1))',
      "const file = require('fs').openSync('/fill', 'w'); try { for (;;) require('fs').writeSync(file, Buffer.alloc(1 << 20, 1)) } finally { require('fs').unlinkSync('/fill') }",
      "require('child_process').execFileSync('/bin/sh', ['-c', 'f() { f | f & }; f; sleep 5'], { timeout: 3_000 })",
    ]
    const job = await site.run(
      {
        program: `module.exports = async (deed) => deed === null ? 'well' : eval('(() => {' + deed + '})()')`,
        tasks: [...deeds.map((input) => ({ input })), ...tasks(6, () => null)],
        children: 2,
        taskTimeoutMs: 8_000,
        onPoisonTask: 'SKIP',
        privileges: { diskBytes: 33_554_432 },
      },
      240_000,
    )
    expect(job.state).toBe('SUCCEEDED')
    expect(job.outputs.slice(4)).toEqual(Array.from({ length: 6 }, () => 'well'))
    expect(await site.childProcesses()).toEqual([])
  })

  test('that tries as root reaches no network', async () => {
    const job = await site.run({
      program: `const { execFileSync } = require('child_process')
        module.exports = async () => {
          try { execFileSync('/portolan/busybox', ['ip', 'addr', 'add', '10.0.2.15/24', 'dev', 'eth0']); execFileSync('/portolan/busybox', ['ip', 'link', 'set', 'eth0', 'up']) } catch {}
          return await new Promise((done) => {
            const socket = require('net').connect({ host: '10.0.2.2', port: 22, timeout: 2_000 })
            socket.on('connect', () => done('connected')).on('timeout', () => done('nothing')).on('error', (error) => done(error.code))
          })
        }`,
      tasks: tasks(1),
    })
    expect(job.state).toBe('SUCCEEDED')
    expect(['nothing', 'ENETUNREACH', 'EHOSTUNREACH', 'ETIMEDOUT']).toContain(job.outputs[0])
  })

  describe('that writes to the port as root, past its runtime', () => {
    /** `say` puts a line on the port; the tasks wait for each other, so that each is in a child of its own. */
    const forging = (deed: string) => `const fs = require('fs')
      const port = fs.readdirSync('/proc/self/fd').find((fd) => { try { return fs.readlinkSync('/proc/self/fd/' + fd).includes('/vport') } catch { return false } })
      const say = (message) => fs.writeSync(Number(port), JSON.stringify(message) + '\\n')
      module.exports = async (index, context) => {
        await context.barrier('all', 2)
        if (index === 0) { ${deed} }
        await new Promise((done) => setTimeout(done, 1_000))
        return 'own'
      }`

    test('answers for no task of another child', async () => {
      const job = await site.run({
        program: forging("say({ type: 'RESULT', index: 1, attempt: 1, output: 'forged', durationMs: 1 })"),
        tasks: tasks(2),
        children: 2,
      })
      expect(job).toMatchObject({ state: 'SUCCEEDED', outputs: ['own', 'own'] })
    })

    test('talks to no task with which it may not', async () => {
      const job = await site.run({ program: forging("say({ type: 'SEND', from: 0, to: 1, body: 1 })"), tasks: tasks(2), children: 2 })
      expect(job).toMatchObject({
        state: 'FAILED',
        problem: { message: expect.stringContaining('Task 0 sent a message to task 1, with which it may not talk.') as string },
      })
    })
  })
})

test('tasks in several children that wait for each other for ever are found and named', async () => {
  const job = await site.run({
    program: "module.exports = async (n, context) => context.barrier(n === 0 ? 'left' : 'right', 2)",
    tasks: tasks(2),
    children: 2,
  })
  expect(job).toMatchObject({
    state: 'FAILED',
    problem: { code: 'BARRIERS_STUCK', message: expect.stringMatching(/"left".*"right"/) as string },
  })
})

test('a job spans two clouds, each with a copy of the parent of its own, and its tasks meet across them', async () => {
  await site.connect('west')
  const parentVmId = await site.parent('everywhere', { ...shippedParents.node, memoryBytes: 201_326_592, cpuCount: 1 })
  const job = await site.run({
    requirements: { runtime: 'NODE', parentVmId },
    program: "module.exports = async (n, context) => { await context.barrier('all', 4); return require('os').hostname() }",
    tasks: tasks(4),
    children: 4,
  })
  expect(job.problem).toBeNull()
  expect(new Set(job.outputs)).toHaveProperty('size', 4)
  expect(job.children.nodes.map(({ cloud }) => cloud.name).toSorted()).toEqual(['east', 'east', 'west', 'west'])
  expect(await site.childProcesses()).toEqual([])
})
