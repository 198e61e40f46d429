/**
 * How long a child takes from the request of its fork to its first answer, beside a cold boot of the same machine to the same answer in the same warmed runtime, and what memory
 * each takes. The peer is the cold VM: what anybody has who does not fork.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises'
import { cpus, loadavg } from 'node:os'
import { join } from 'node:path'
import { artifacts, cacheDirectory } from '../setup/artifacts.ts'
import { shippedParents } from '../setup/parent-images.ts'
import { ensureSetup } from '../setup/setup.ts'
import { openChildSession, type ChildSession } from '../src/job-environment/child-session.ts'
import type { ChildLimits, ForkCapability } from '../src/plugin-sdk/index.ts'
import { openPluginRegistry } from '../src/plugin-sdk/registry/plugin-registry.ts'
import { parentImage } from '../src/workflows/parent-image.ts'

const memoryBytes = 192 * 1024 ** 2
const siblings = 20
const coldVms = 5
const singles = 10
const warmUp = "require('lodash').chunk([1, 2, 3], 2)"
const program = {
  type: 'PROGRAM',
  source: "module.exports = async (n) => require('lodash').range(n).map((x) => x * x).length",
  shared: {},
  taskTimeoutMs: 60_000,
} as const
const limits: ChildLimits = {
  memoryBytes: 2 * memoryBytes,
  cpuShare: 1,
  diskBytes: 64 * 1024 ** 2,
  network: 'NONE',
  maxLifetimeMs: 600_000,
}

interface Answering {
  id: string
  session: ChildSession
  answeredAfterMs: number
}

export default async function benchFork({ json, signal }: { json: boolean; signal: AbortSignal }): Promise<void> {
  const say = (line: string) => process.stderr.write(`${line}\n`)
  await ensureSetup({ log: say })
  const directory = await mkdtemp(join(cacheDirectory(), 'bench-'))
  const registry = await openPluginRegistry([join(import.meta.dirname, '../plugins/qemu')], { log: () => {} })
  try {
    const { connection } = await registry.connect('qemu', { stateDirectory: join(directory, 'east') })
    const fork = connection.fork
    if (!fork) throw new Error('The qemu plugin does not fork here.')
    const figures = await measure(fork, { directory, say, signal })
    await connection.close()
    if (json) process.stdout.write(`${JSON.stringify(figures)}\n`)
    else process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`)
  } finally {
    await registry.close()
    await rm(directory, { recursive: true, force: true })
  }
}

async function measure(
  fork: ForkCapability,
  { directory, say, signal }: { directory: string; say: (line: string) => void; signal: AbortSignal },
) {
  const image = await parentImage({
    ...shippedParents.node,
    base: artifacts().parentBase,
    cacheDirectory: cacheDirectory(),
    signal,
  })

  /** From the start of the process to the answer that it has its identity, in a runtime that was warmed. */
  async function coldBoot(): Promise<Answering> {
    const id = randomUUID()
    const since = performance.now()
    const { channel } = await fork.bootParent({ operationId: `boot-${id}`, parentId: id, image, memoryBytes, cpuCount: 1, signal })
    const session = await openChildSession({ channel, signal, onMessage: () => {} })
    await session.expect((message) => message.type === 'HELLO', 240_000, 'hello')
    session.send({ type: 'WARM_UP', program: warmUp })
    await session.expect((message) => message.type === 'READY', 120_000, 'that it is warm')
    await identify(session, id)
    return { id, session, answeredAfterMs: performance.now() - since }
  }

  async function forked(parentId: string): Promise<Answering> {
    const id = randomUUID()
    const since = performance.now()
    const { channel } = await fork.forkChild({ operationId: `fork-${id}`, parentId, childId: id, limits, paused: false, signal })
    const session = await openChildSession({ channel, signal, onMessage: () => {} })
    await identify(session, id)
    return { id, session, answeredAfterMs: performance.now() - since }
  }

  async function fromPool(parentId: string): Promise<Answering> {
    const id = randomUUID()
    const { channel } = await fork.forkChild({ operationId: `fork-${id}`, parentId, childId: id, limits, paused: true, signal })
    const since = performance.now()
    await fork.resumeChild({ operationId: `resume-${id}`, childId: id, signal })
    const session = await openChildSession({ channel, signal, onMessage: () => {} })
    await identify(session, id)
    return { id, session, answeredAfterMs: performance.now() - since }
  }

  const end = async ({ id, session }: Answering) => {
    session.close()
    await fork.deleteChild({ operationId: `delete-${id}`, childId: id })
  }
  const endCold = async ({ id, session }: Answering) => {
    session.close()
    await fork.deleteParent({ operationId: `delete-${id}`, parentId: id })
  }

  say(`${coldVms} cold boots, one after the other`)
  const cold: Answering[] = []
  for (let count = 0; count < coldVms; count++) cold.push(await coldBoot())
  const coldBytes = await Promise.all(cold.map(({ id }) => pssOf(join(directory, 'east'), id)))
  await Promise.all(cold.map(({ session }) => runTask(session)))
  const coldAfterTaskBytes = await Promise.all(cold.map(({ id }) => pssOf(join(directory, 'east'), id)))
  for (const vm of cold) await endCold(vm)

  const parentId = randomUUID()
  const { channel } = await fork.bootParent({ operationId: 'boot', parentId, image, memoryBytes, cpuCount: 1, signal })
  const session = await openChildSession({ channel, signal, onMessage: () => {} })
  await session.expect((message) => message.type === 'HELLO', 240_000, 'hello')
  session.send({ type: 'WARM_UP', program: warmUp })
  await session.expect((message) => message.type === 'READY', 120_000, 'that it is warm')
  const parent = await fork.saveParent({ operationId: 'save', parentId, signal })
  session.close()

  say(`${singles} forks, one after the other; ${singles} from a paused pool; 10 and ${siblings} at once`)
  const single: number[] = []
  const pooled: number[] = []
  for (let count = 0; count < singles; count++) {
    const child = await forked(parentId)
    single.push(child.answeredAfterMs)
    await end(child)
    const paused = await fromPool(parentId)
    pooled.push(paused.answeredAfterMs)
    await end(paused)
  }
  const since = performance.now()
  const ten = await Promise.all(Array.from({ length: 10 }, () => forked(parentId)))
  const tenMs = performance.now() - since
  const sinceAll = performance.now()
  const all = [...ten, ...(await Promise.all(Array.from({ length: siblings - 10 }, () => forked(parentId))))]
  const allMs = tenMs + performance.now() - sinceAll
  const childrenBytes = (await fork.listChildren({ signal })).map((child) => child.memoryBytes)
  for (const child of all) await runTask(child.session)
  const childrenAfterTaskBytes = (await fork.listChildren({ signal })).map((child) => child.memoryBytes)
  for (const child of all) await end(child)
  await fork.deleteParent({ operationId: 'delete', parentId })

  const coldMs = median(cold.map(({ answeredAfterMs }) => answeredAfterMs))
  return {
    bench: 'fork',
    ours: {
      forkMs: rounded(median(single)),
      fromPausedPoolMs: rounded(median(pooled)),
      tenInParallelMs: rounded(tenMs),
      [`${siblings === 20 ? 'twenty' : siblings}InTwoTensMs`]: rounded(allMs),
      childrenMibAtFirstAnswer: mib(sum(childrenBytes)),
      childrenMibAfterATask: mib(sum(childrenAfterTaskBytes)),
      parentSaveMs: rounded(parent.saveMs),
    },
    peers: {
      coldVm: {
        bootMs: rounded(coldMs),
        mibAtFirstAnswerOf20: mib((sum(coldBytes) / coldVms) * siblings),
        mibAfterATaskOf20: mib((sum(coldAfterTaskBytes) / coldVms) * siblings),
        scaledFrom: coldVms,
      },
    },
    ratios: {
      forkVsColdBoot: ratio(median(single) / coldMs),
      memoryVsCold: ratio(sum(childrenBytes) / ((sum(coldBytes) / coldVms) * siblings)),
      memoryVsColdAfterATask: ratio(sum(childrenAfterTaskBytes) / ((sum(coldAfterTaskBytes) / coldVms) * siblings)),
    },
    conditions: { memoryBytes, siblings, guestCpus: 1, hostCpus: cpus().length, hostLoadAtEnd: rounded(loadavg()[0]!) },
  }
}

async function identify(session: ChildSession, id: string): Promise<void> {
  session.send({ type: 'IDENTITY', id, name: 'bench', mac: null, unixMs: Date.now(), entropy: randomBytes(256).toString('base64') })
  await session.expect((message) => message.type === 'IDENTIFIED', 30_000, 'that it has its identity')
}

async function runTask(session: ChildSession): Promise<void> {
  session.send(program)
  await session.expect((message) => message.type === 'PROGRAM_READY', 30_000, 'that it has the program')
  session.send({ type: 'COMPONENT', tasks: [{ index: 0, attempt: 1, input: 10_000, interactsWith: [] }] })
  await session.expect((message) => message.type === 'RESULT', 60_000, 'its result')
}

/** Proportional set size of the QEMU whose arguments name the parent (proc_pid_smaps(5)), in bytes. */
async function pssOf(stateDirectory: string, parentId: string): Promise<number> {
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const name = await readFile(`/proc/${entry}/comm`, 'utf8').catch(() => '')
    const directory = await readlink(`/proc/${entry}/cwd`).catch(() => '')
    if (!name.startsWith('qemu') || !directory.startsWith(stateDirectory) || !directory.includes(parentId)) continue
    const rollup = await readFile(`/proc/${entry}/smaps_rollup`, 'utf8')
    return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)![1]) * 1024
  }
  throw new Error(`There is no process of the parent ${parentId} below ${stateDirectory}.`)
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0)
const median = (numbers: readonly number[]) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!
const rounded = (number: number) => Math.round(number * 10) / 10
const mib = (bytes: number) => Math.round(bytes / 1024 ** 2)
const ratio = (number: number) => Math.round(number * 1000) / 1000
