/** A cloud that forks, a control plane of its own, and parent VMs: for one test file of jobs. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startControlPlane, type ControlPlaneProcess } from '../../src/cli/control-plane-process.ts'
import { demoPlugins } from '../../src/cli/demo-site.ts'
import { startPrivateLibvirt } from '../../src/cli/private-site/start-private-libvirt.ts'
import { createGraphqlClient, type GraphqlClient } from '../../src/cli/graphql-client.ts'

export interface JobSite {
  /** Another cloud on this machine that forks, beside `east`; gives its id. */
  connect(name: string): Promise<string>
  /** A cloud that can't fork. */
  connectLibvirt(name: string): Promise<string>
  controlPlane(): ControlPlaneProcess
  restartControlPlane(): Promise<void>
  api(): GraphqlClient
  /** Registers one; gives its id. */
  register(name: string, recipe: Record<string, unknown>, pausedChildren?: number): Promise<string>
  /** Registers one and waits until it is READY. @throws Error with its problem. */
  parent(name: string, recipe: Record<string, unknown>, pausedChildren?: number): Promise<string>
  submit(input: Record<string, unknown>): Promise<{ job?: { id: string }; code?: string; message?: string }>
  job(id: string): Promise<JobAnswer>
  /** Asks every 100 ms until the condition holds. @throws Error with the job's last state. */
  until(id: string, condition: (job: JobAnswer) => boolean, timeoutMs?: number): Promise<JobAnswer>
  /** Submits, waits for the end, and gives the job with its outputs in order. */
  run(input: Record<string, unknown>, timeoutMs?: number): Promise<JobAnswer & { outputs: unknown[] }>
  outputs(id: string): Promise<{ index: number; output: unknown }[]>
  /** Process ids of the children's QEMUs. */
  childProcesses(): Promise<number[]>
  /** And of those of parents that are being built. */
  parentProcesses(): Promise<number[]>
  close(): Promise<void>
}

export interface JobAnswer {
  state: 'PENDING' | 'RUNNING' | 'SUCCEEDED' | 'FAILED' | 'CANCELLED'
  parentUnchanged: boolean | null
  problem: { code: string; message: string } | null
  taskCounts: { state: string; count: number }[]
  children: {
    nodes: {
      state: string
      origin: 'FORKED' | 'BOOTED'
      wasPaused: boolean
      lossReason: string | null
      tasksDone: number
      cloud: { name: string }
    }[]
  }
  done: number
}

const jobDocument = `query Job($id: ID!) { job(id: $id) { state parentUnchanged problem { code message } taskCounts { state count }
  children(first: 100) { nodes { state origin wasPaused lossReason tasksDone cloud { name } } } } }`
const outputDocument = `query Output($id: ID!, $after: Int) { job(id: $id) { collectiveOutput(first: 100, after: $after) { outputs { index output } nextAfter } } }`
const ended = ['SUCCEEDED', 'FAILED', 'CANCELLED']

/** @param first whether there is a cloud that forks from the beginning. */
export async function openJobSite(first: 'east' | null = 'east'): Promise<JobSite> {
  const directory = await mkdtemp(join(tmpdir(), 'scenario-'))
  const configuration = { api: { host: '127.0.0.1', port: 0 }, plugins: demoPlugins }
  const parents: string[] = []
  let controlPlane = await startControlPlane(directory, configuration)
  const { token } = controlPlane
  let api = createGraphqlClient(controlPlane.url, token)
  const closing: (() => Promise<unknown>)[] = []
  const connectCloud = async (name: string, pluginId: string, options: Record<string, unknown>) => {
    const { connectCloud: answer } = await api.run<{ connectCloud: { cloud?: { id: string }; message?: string } }>(
      `mutation C($input: ConnectCloudInput!) { connectCloud(input: $input) { ... on ConnectCloudSuccess { cloud { id } } ... on Error { message } } }`,
      { input: { idempotencyKey: name, pluginId, name, options } },
    )
    if (!answer.cloud) throw new Error(answer.message)
    return answer.cloud.id
  }
  const connect = (name: string) => connectCloud(name, 'qemu', { stateDirectory: join(directory, name) })
  if (first) await connect(first)

  const processesIn = async (part: string) => {
    const found: number[] = []
    for (const entry of await readdir('/proc')) {
      if (!/^\d+$/.test(entry)) continue
      const name = await readFile(`/proc/${entry}/comm`, 'utf8').catch(() => '')
      const cwd = await readlink(`/proc/${entry}/cwd`).catch(() => '')
      if (name.startsWith('qemu') && cwd.startsWith(directory) && cwd.includes(part)) found.push(Number(entry))
    }
    return found
  }

  const site: JobSite = {
    connect,
    async connectLibvirt(name) {
      const libvirt = await startPrivateLibvirt({ directory: join(directory, name) })
      closing.push(() => libvirt.stop())
      return connectCloud(name, 'libvirt', { uri: libvirt.uri })
    },
    controlPlane: () => controlPlane,
    async restartControlPlane() {
      controlPlane = await startControlPlane(directory, configuration)
      api = createGraphqlClient(controlPlane.url, token)
    },
    api: () => api,
    async register(name, recipe, pausedChildren) {
      const { registerParentVm } = await api.run<{ registerParentVm: { parentVm?: { id: string }; message?: string } }>(
        `mutation R($input: RegisterParentVmInput!) { registerParentVm(input: $input) { ... on RegisterParentVmSuccess { parentVm { id } } ... on Error { message } } }`,
        { input: { idempotencyKey: randomUUID(), name, recipe, ...(pausedChildren !== undefined && { pausedChildren }) } },
      )
      const id = registerParentVm.parentVm?.id
      if (!id) throw new Error(registerParentVm.message)
      parents.push(id)
      return id
    },
    async parent(name, recipe, pausedChildren) {
      const id = await site.register(name, recipe, pausedChildren)
      for (;;) {
        const { parentVm } = await api.run<{ parentVm: { state: string; problem: string | null } }>(
          `query P($id: ID!) { parentVm(id: $id) { state problem } }`,
          { id },
        )
        if (parentVm.state === 'READY') return id
        if (parentVm.state === 'FAILED') throw new Error(parentVm.problem ?? 'FAILED')
        await new Promise((done) => setTimeout(done, 250))
      }
    },
    async submit(input) {
      const { submitJob } = await api.run<{ submitJob: { job?: { id: string }; code?: string; message?: string } }>(
        `mutation S($input: SubmitJobInput!) { submitJob(input: $input) { ... on SubmitJobSuccess { job { id } } ... on Error { code message } } }`,
        { input: { idempotencyKey: randomUUID(), name: 'a job', requirements: { runtime: 'NODE' }, ...input } },
      )
      return submitJob
    },
    async job(id) {
      const { job } = await api.run<{ job: Omit<JobAnswer, 'done'> }>(jobDocument, { id })
      return { ...job, done: job.taskCounts.find(({ state }) => state === 'DONE')?.count ?? 0 }
    },
    async until(id, condition, timeoutMs = 120_000) {
      const deadline = performance.now() + timeoutMs
      for (;;) {
        const job = await site.job(id)
        if (condition(job)) return job
        if (performance.now() > deadline || ended.includes(job.state)) throw new Error(`The job did not get there: ${JSON.stringify(job)}`)
        await new Promise((done) => setTimeout(done, 100))
      }
    },
    async run(input, timeoutMs) {
      const { job, message } = await site.submit(input)
      if (!job) throw new Error(message)
      const answer = await site.until(job.id, ({ state }) => ended.includes(state), timeoutMs)
      return { ...answer, outputs: (await site.outputs(job.id)).map(({ output }) => output) }
    },
    async outputs(id) {
      const outputs: { index: number; output: unknown }[] = []
      for (let after: number | null = null; ;) {
        const { job }: { job: { collectiveOutput: { outputs: typeof outputs; nextAfter: number | null } } } = await api.run(
          outputDocument,
          { id, after },
        )
        outputs.push(...job.collectiveOutput.outputs)
        after = job.collectiveOutput.nextAfter
        if (after === null) return outputs
      }
    },
    childProcesses: () => processesIn('/children/'),
    parentProcesses: async () => {
      const children = await processesIn('/children/')
      return (await processesIn('/parents/')).filter((pid) => !children.includes(pid))
    },
    async close() {
      for (const parentVmId of parents) {
        await api
          .run(`mutation D($input: DeleteParentVmInput!) { deleteParentVm(input: $input) { __typename } }`, {
            input: { idempotencyKey: randomUUID(), parentVmId },
          })
          .catch(() => {})
        for (let attempt = 0; attempt < 40; attempt++) {
          const state = await api
            .run<{ parentVm: { state: string } | null }>(`query P($id: ID!) { parentVm(id: $id) { state } }`, { id: parentVmId })
            .then(({ parentVm }) => parentVm?.state)
            .catch(() => 'DELETED')
          if (state === 'DELETED' || state === undefined) break
          await new Promise((done) => setTimeout(done, 250))
        }
      }
      await controlPlane.stop()
      for (const close of closing) await close()
      await rm(directory, { recursive: true, force: true })
    },
  }
  return site
}
