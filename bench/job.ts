/**
 * What a job costs beside its computing: 64 tasks of 200 ms of CPU, and 10,000 of 1 ms, on 8 virtual machines.
 *
 *   ours        through the API: from submitJob to SUCCEEDED, forks and removal included
 *   coldVms     the same dispatcher and tasks on machines that are booted for it
 *   vmsUp       the same on those machines, being up already: the limit
 *   processes   the same work in as many processes of this machine, for scale: no emulation, no isolation
 *
 * Overhead is the total less the time on machines that are up. How much work 200 ms and 1 ms are is found out in a guest first.
 */
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { cpus, loadavg } from 'node:os'
import { join } from 'node:path'
import { artifacts, cacheDirectory } from '../setup/artifacts.ts'
import { shippedParents } from '../setup/parent-images.ts'
import { ensureSetup } from '../setup/setup.ts'
import { openChildSession } from '../src/job-environment/child-session.ts'
import { runJob } from '../src/job-environment/job-environment.ts'
import type { ForkCapability, GuestChannel } from '../src/plugin-sdk/index.ts'
import { openPluginRegistry } from '../src/plugin-sdk/registry/plugin-registry.ts'
import { parentImage } from '../src/workflows/parent-image.ts'
import { openJobSite } from '../test/support/job-site.ts'

const machines = 8
const memoryBytes = 192 * 1024 ** 2
const loads = [
  { name: 'long', tasks: 64, taskMs: 200 },
  { name: 'short', tasks: 10_000, taskMs: 1 },
] as const

/** The input is how often to go round. */
const work = 'let x = 1; for (let round = 0; round < rounds; round++) x = (x * 48271) % 2147483647'
const source = `module.exports = async (rounds) => { ${work}; return x }`
const calibration = `module.exports = async () => { const run = (rounds) => { ${work}; return x }
  run(1e5); const began = performance.now(); run(1e6); return 1e6 / (performance.now() - began) }`
const recipe = { ...shippedParents.node, warmUp: null, memoryBytes, cpuCount: 1 }

export default async function benchJob({ json, signal }: { json: boolean; signal: AbortSignal }): Promise<void> {
  const say = (line: string) => process.stderr.write(`${line}\n`)
  await ensureSetup({ log: say })
  const directory = await mkdtemp(join(cacheDirectory(), 'bench-'))
  const registry = await openPluginRegistry([join(import.meta.dirname, '../plugins/qemu')], { log: () => {} })
  const site = await openJobSite()
  try {
    await site.parent('bench', recipe)
    const [roundsPerMs] = (await site.run({ program: calibration, tasks: [{ input: null }] })).outputs as [number]
    const { connection } = await registry.connect('qemu', { stateDirectory: join(directory, 'east') })
    const inputsOf = loads.map(({ tasks, taskMs }) => Array.from({ length: tasks }, () => Math.round(roundsPerMs * taskMs)))
    const { bootMs, upMs } = await onColdVms(connection.fork!, inputsOf, signal)
    await connection.close()
    say(`${machines} machines booted in ${Math.round(bootMs)} ms; ${Math.round(roundsPerMs)} rounds a millisecond in a guest`)
    const measured: Record<string, Record<string, number>> = {}
    for (const [place, { name, tasks, taskMs }] of loads.entries()) {
      const inputs = inputsOf[place]!
      const since = performance.now()
      const job = await site.run(
        { program: source, tasks: inputs.map((rounds) => ({ input: rounds })), children: machines, taskTimeoutMs: 60_000 },
        600_000,
      )
      const oursMs = performance.now() - since
      if (job.state !== 'SUCCEEDED' || job.done !== tasks) throw new Error(`The job ${name} is ${job.state}: ${job.problem?.message}`)
      measured[name] = {
        tasks,
        taskMs,
        oursMs,
        coldVmsMs: bootMs + upMs[place]!,
        vmsUpMs: upMs[place]!,
        processesMs: await inProcesses(inputs),
      }
      say(`${name}: ${JSON.stringify(Object.fromEntries(Object.entries(measured[name]).map(([key, value]) => [key, Math.round(value)])))}`)
    }
    const { long, short } = measured as Record<'long' | 'short', { oursMs: number; coldVmsMs: number; vmsUpMs: number; tasks: number }>
    const figures = {
      bench: 'job',
      loads: measured,
      controlPlanePeakMib: await peakMib(site.controlPlane().process.pid!),
      ratios: {
        jobOverheadVsColdVms: ratio((long.oursMs - long.vmsUpMs) / (long.coldVmsMs - long.vmsUpMs)),
        smallTaskOverheadMs: ratio((short.oursMs - short.vmsUpMs) / short.tasks),
        smallTaskBesideComputingMs: ratio((short.oursMs - short.tasks / cpus().length) / short.tasks),
      },
      conditions: { machines, memoryBytes, guestCpus: 1, hostCpus: cpus().length, hostLoadAtEnd: ratio(loadavg()[0]!) },
    }
    process.stdout.write(`${json ? JSON.stringify(figures) : JSON.stringify(figures, null, 2)}\n`)
  } finally {
    await site.close()
    await registry.close()
    await rm(directory, { recursive: true, force: true })
  }
}

/** Boots them all at once, as somebody would who is in a hurry, runs each load on them, and ends them: a machine that is up takes time from the others. */
async function onColdVms(
  fork: ForkCapability,
  loadInputs: readonly number[][],
  signal: AbortSignal,
): Promise<{ bootMs: number; upMs: number[] }> {
  const image = await parentImage({
    ...shippedParents.node,
    base: artifacts().parentBase,
    cacheDirectory: cacheDirectory(),
    signal,
  })
  const ids = Array.from({ length: machines }, () => randomUUID())
  try {
    const since = performance.now()
    const booted = await Promise.all(
      ids.map(async (parentId) => {
        const { channel } = await fork.bootParent({ operationId: `boot-${parentId}`, parentId, image, memoryBytes, cpuCount: 1, signal })
        const session = await openChildSession({ channel, signal, onMessage: () => {} })
        await session.expect((message) => message.type === 'HELLO', 240_000, 'hello')
        session.close()
        return { parentId, channel }
      }),
    )
    const bootMs = performance.now() - since
    // The first run translates what the second finds translated; a job's children never have that.
    await runOn(booted, loadInputs[0]!.slice(0, machines), signal)
    const upMs: number[] = []
    for (const inputs of loadInputs) upMs.push(await runOn(booted, inputs, signal))
    return { bootMs, upMs }
  } finally {
    for (const parentId of ids) await fork.deleteParent({ operationId: `delete-${parentId}`, parentId })
  }
}

async function runOn(
  booted: readonly { parentId: string; channel: GuestChannel }[],
  inputs: readonly number[],
  signal: AbortSignal,
): Promise<number> {
  const since = performance.now()
  const nothing = () => {}
  await runJob({
    components: inputs.map((_, index) => [index]),
    tasks: new Map(inputs.map((input, index) => [index, { input, interactsWith: [] }])),
    ended: new Set(),
    counted: new Map(),
    retries: 0,
    onPoisonTask: 'FAIL',
    program: { source, shared: {}, taskTimeoutMs: 60_000 },
    peers: 'INTERACTING',
    children: booted.length,
    start: async (place) => ({
      id: booted[place]!.parentId,
      uniqueId: booted[place]!.parentId,
      channel: booted[place]!.channel,
      name: `vm-${place}`,
      mac: null,
    }),
    remove: async () => {},
    report: { started: nothing, done: nothing, stumbled: nothing, ended: nothing, log: nothing, childReady: nothing, childLost: nothing },
    signal,
  })
  return performance.now() - since
}

async function inProcesses(inputs: readonly number[]): Promise<number> {
  const since = performance.now()
  const shares = Array.from({ length: machines }, (_, share) => inputs.filter((__, index) => index % machines === share))
  await Promise.all(
    shares.map((share) => {
      const script = `for (const rounds of ${JSON.stringify(share)}) { ${work} }`
      const child = spawn(process.execPath, ['-'], { stdio: ['pipe', 'ignore', 'inherit'] })
      child.stdin.end(script)
      return new Promise<void>((done, fail) =>
        child.once('exit', (code) => (code === 0 ? done() : fail(new Error(`A process ended with ${code}.`)))),
      )
    }),
  )
  return performance.now() - since
}

/** The most that was resident at one time (proc_pid_status(5), VmHWM). */
async function peakMib(pid: number): Promise<number> {
  return Math.round(Number(/^VmHWM:\s+(\d+) kB/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))![1]) / 1024)
}

const ratio = (number: number) => Math.round(number * 1000) / 1000
