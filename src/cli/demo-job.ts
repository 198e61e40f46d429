/**
 * `npm run demo -- job`: a picture is rendered in tiles on forked children while one of them is killed, driven through the GraphQL API only.
 *   --children N   how many children (default 4)
 *   --out FILE     where the PNG goes (default portolan-demo.png in the present directory)
 *   --json         the last line is one JSON object
 */
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { shippedParents } from '../../setup/parent-images.ts'
import { ensureSetup } from '../../setup/setup.ts'
import { startControlPlane } from './control-plane-process.ts'
import * as documents from './demo-job-documents.ts'
import { demoPlugins } from './demo-site.ts'
import { createGraphqlClient, type GraphqlClient } from './graphql-client.ts'
import { picture, png, tileInputs, tileProgram } from './mandelbrot.ts'
import { requireSound } from './require-sound.ts'
import { runDemo, type Demo } from './run-demo.ts'

const { values: options } = parseArgs({
  args: process.argv.slice(3),
  options: {
    children: { type: 'string', default: '4' },
    out: { type: 'string', default: 'portolan-demo.png' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const children = Number(options.children)
if (options.help || !Number.isInteger(children) || children < 2 || children > 20) {
  process.stderr.write('usage: npm run demo -- job [--children N (2 to 20)] [--out FILE] [--json]\n')
  process.exit(options.help ? 0 : 2)
}

/** Debian's Node with one library, loaded before the fork. */
const parent = {
  name: 'node-with-lodash',
  recipe: {
    ...shippedParents.node,
    warmUp: "require('lodash').chunk([1, 2, 3], 2)",
    memoryBytes: 192 * 1024 ** 2,
    cpuCount: 1,
  },
}

interface Job {
  id: string
  state: string
  tasksTotal: number
  taskCounts: { state: string; count: number }[]
  tasksPerSecond: number | null
  etaMs: number | null
  parentReason: string | null
  problem: { message: string; remedy: string } | null
  children: { nodes: { state: string; forkMs: number | null; memoryBytes: number | null; tasksDone: number; lossReason: string | null }[] }
}

const say = (line: string) => process.stdout.write(`${line}\n`)
const started = performance.now()
const elapsed = () => `[${((performance.now() - started) / 1000).toFixed(0).padStart(3)} s]`

async function story(demo: Demo): Promise<void> {
  const { undo } = demo
  const directory = await mkdtemp(join(tmpdir(), 'portolan-job-'))
  undo.push(() => rm(directory, { recursive: true, force: true }))
  const stateDirectory = join(directory, 'east')
  const controlPlane = await startControlPlane(directory, { api: { host: '127.0.0.1', port: 0 }, plugins: demoPlugins })
  undo.push(() => controlPlane.stop())
  const api = createGraphqlClient(controlPlane.url, controlPlane.token)
  await api.run(documents.connectCloud, {
    input: { idempotencyKey: 'east', pluginId: 'qemu', name: 'east', options: { stateDirectory } },
  })
  const parentVmId = await registerParent(api)
  undo.push(() => removeParent(api, parentVmId))
  const { bootMs, saveMs, memoryBytes } = await untilWarm(api, parentVmId)
  say(
    `${elapsed()} the parent VM is warm and saved: cold boot to warm ${seconds(bootMs)}, saved in ${saveMs} ms, ${mib(memoryBytes)} MiB of memory`,
  )

  const inputs = tileInputs()
  const job = await submit(api, inputs)
  undo.push(() => api.run(documents.cancelJob, { input: { idempotencyKey: 'cancel', jobId: job } }))
  say(`${elapsed()} job submitted: ${inputs.length} tiles of ${picture.width} x ${picture.tileRows} pixels on ${children} children`)
  const done = await follow(api, job, stateDirectory)
  if (done.state !== 'SUCCEEDED') throw new Error(`The job is ${done.state}: ${done.problem?.message ?? ''} ${done.problem?.remedy ?? ''}`)

  const outputs = await collect(api, job)
  const file = resolve(options.out)
  const image = png(outputs.map(({ output }) => output))
  await writeFile(file, image)
  const forks = done.children.nodes.flatMap(({ forkMs }) => forkMs ?? [])
  const result = {
    tasks: done.tasksTotal,
    tasksDone: done.taskCounts.find(({ state }) => state === 'DONE')?.count ?? 0,
    duplicates: outputs.length - new Set(outputs.map(({ index }) => index)).size,
    childrenForked: done.children.nodes.length,
    childrenKilled: done.children.nodes.filter(({ state }) => state === 'LOST').length,
    forkMsMedian: median(forks),
    coldBootMs: bootMs,
    parentUnchanged: await isParentUnchanged(api, job),
    pngSha256: createHash('sha256').update(image).digest('hex'),
  }
  say(`
  children         ${result.childrenForked} forked, ${result.childrenKilled} of them killed on the way and replaced
  fork to ready    ${result.forkMsMedian} ms (median), cold boot to ready ${result.coldBootMs} ms: ${(result.coldBootMs / result.forkMsMedian).toFixed(0)} times as long
  memory           ${done.children.nodes.map((child) => (child.memoryBytes === null ? '-' : mib(child.memoryBytes))).join(', ')} MiB a child (its share), ${mib(memoryBytes)} MiB the parent
  tasks            ${result.tasksDone} of ${result.tasks} done, ${result.duplicates} twice
  the parent       ${result.parentUnchanged ? 'is byte for byte what it was' : 'HAS CHANGED'}
  the picture      ${file}
`)
  demo.result = result
  requireSound(result)
}

async function registerParent(api: GraphqlClient): Promise<string> {
  say(`${elapsed()} building a parent VM: Debian's Node with ${parent.recipe.packages.join(' and ')} loaded`)
  const { registerParentVm } = await api.run<{ registerParentVm: { parentVm?: { id: string }; message?: string } }>(
    documents.registerParentVm,
    {
      input: { idempotencyKey: 'parent', ...parent },
    },
  )
  if (!registerParentVm.parentVm) throw new Error(registerParentVm.message)
  return registerParentVm.parentVm.id
}

async function untilWarm(api: GraphqlClient, id: string): Promise<{ bootMs: number; saveMs: number; memoryBytes: number }> {
  for (;;) {
    const { parentVm } = await api.run<{
      parentVm: { state: string; problem: string | null; copies: { bootMs: number; saveMs: number; memoryBytes: number }[] }
    }>(documents.parentVm, { id })
    if (parentVm.state === 'FAILED') throw new Error(parentVm.problem ?? 'The parent VM could not be built.')
    if (parentVm.state === 'READY') return parentVm.copies[0]!
    await new Promise((after) => setTimeout(after, 500))
  }
}

/** The files of a parent are the cloud's: they go before the cloud's directory does. Refused as long as a job that was cancelled has children. */
async function removeParent(api: GraphqlClient, id: string) {
  for (let attempt = 0; attempt < 120; attempt++) {
    await api.run(documents.deleteParentVm, { input: { idempotencyKey: 'delete', parentVmId: id } })
    const { parentVm } = await api.run<{ parentVm: { state: string } | null }>(documents.parentVm, { id })
    if (parentVm === null || parentVm.state === 'DELETED') return
    await new Promise((after) => setTimeout(after, 500))
  }
  throw new Error('The parent VM could not be deleted within a minute.')
}

async function submit(api: GraphqlClient, inputs: readonly unknown[]): Promise<string> {
  const { submitJob } = await api.run<{ submitJob: { job?: { id: string }; message?: string } }>(documents.submitJob, {
    input: {
      idempotencyKey: 'picture',
      name: 'seahorse valley',
      requirements: { runtime: 'NODE', libraries: [{ name: 'lodash' }] },
      program: tileProgram,
      tasks: inputs.map((input) => ({ input })),
      children,
    },
  })
  if (!submitJob.job) throw new Error(submitJob.message)
  return submitJob.job.id
}

/** Its files are read again after the job; nobody else waits for that. */
async function isParentUnchanged(api: GraphqlClient, id: string): Promise<boolean> {
  for (let attempt = 0; attempt < 120; attempt++) {
    const { job } = await api.run<{ job: { parentUnchanged: boolean | null } }>(documents.parentUnchanged, { id })
    if (job.parentUnchanged !== null) return job.parentUnchanged
    await new Promise((after) => setTimeout(after, 250))
  }
  throw new Error("The parent VM's files were not read again within 30 s.")
}

/** Shows how it goes, and kills a child once a third of the tiles is there. */
async function follow(api: GraphqlClient, id: string, stateDirectory: string): Promise<Job> {
  const stop = new AbortController()
  let killed = false
  let shownAt = 0
  let last: Job | null = null
  for await (const { jobProgress } of api.subscribe<{ jobProgress: Job }>(documents.jobProgress, { id }, stop.signal)) {
    const first = last?.parentReason == null && jobProgress.parentReason !== null
    last = jobProgress
    if (first) say(`${elapsed()} ${jobProgress.parentReason}`)
    const count = (state: string) => jobProgress.taskCounts.find((one) => one.state === state)?.count ?? 0
    if (performance.now() - shownAt > 1_000 || jobProgress.state !== 'RUNNING') {
      shownAt = performance.now()
      const pace = jobProgress.tasksPerSecond === null ? '' : ` · ${jobProgress.tasksPerSecond.toFixed(1)} tiles/s`
      const eta = jobProgress.etaMs === null ? '' : ` · ETA ${seconds(jobProgress.etaMs)}`
      say(
        `${elapsed()} ${jobProgress.state} · ${count('DONE')} of ${jobProgress.tasksTotal} tiles · ${count('RUNNING')} running${pace}${eta}`,
      )
    }
    if (!killed && count('DONE') * 3 >= jobProgress.tasksTotal && jobProgress.state === 'RUNNING') {
      killed = true
      say(`${elapsed()} FAULT: kill -9 of the QEMU process ${await killOneChild(stateDirectory)}`)
    }
  }
  if (last === null) throw new Error('The API did not show the job.')
  return last
}

/** From outside, as a machine's fault would be. */
async function killOneChild(stateDirectory: string): Promise<number> {
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const name = await readFile(`/proc/${entry}/comm`, 'utf8').catch(() => '')
    const directory = await readlink(`/proc/${entry}/cwd`).catch(() => '')
    if (!name.startsWith('qemu') || !directory.startsWith(stateDirectory) || !directory.includes('/children/')) continue
    process.kill(Number(entry), 'SIGKILL')
    return Number(entry)
  }
  throw new Error('There is no child to kill.')
}

async function collect(api: GraphqlClient, id: string): Promise<{ index: number; output: string }[]> {
  const outputs: { index: number; output: string }[] = []
  for (let after: number | null = null; ;) {
    const { job }: { job: { collectiveOutput: { outputs: { index: number; output: string }[]; nextAfter: number | null } } } =
      await api.run(documents.collectiveOutput, { id, after })
    outputs.push(...job.collectiveOutput.outputs)
    after = job.collectiveOutput.nextAfter
    if (after === null) return outputs
  }
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`
const mib = (bytes: number) => Math.round(bytes / 1024 ** 2)
function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0
}

await ensureSetup({ log: (line) => process.stderr.write(`${line}\n`) })
await runDemo(story, options)
