/** One run of the suite against one plugin: its connection, how it is crashed, and what was tested. */
import { randomBytes, randomUUID } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { NewVirtualMachine, ProviderConnection, Topology } from '../contract.ts'
import { ProviderError } from '../errors.ts'
import { type LoadedPlugin, loadPlugin } from '../registry/load-plugin.ts'
import type { PluginConnection } from '../registry/plugin-connection.ts'
import type { ConformanceSubject } from './subject.ts'

/** The part of Vitest's API that the suite uses. */
export type TestApi = Pick<typeof import('vitest'), 'describe' | 'test' | 'expect' | 'beforeAll' | 'afterAll'>

export interface Session {
  subject: ConformanceSubject
  plugin: LoadedPlugin
  connected: PluginConnection
  connection: ProviderConnection
  before: { topology: Topology; leftovers: string[] }
  unknownVmId: string
  /** Paths of the members that were called. */
  called: Set<string>
  /** Undo of what tests made; the last test made is undone first. */
  undo: (() => Promise<unknown>)[]
}

/** What a group of checks gets. `session` is there once tests run. */
export interface Suite {
  api: TestApi
  session(): Session
  /** A test that is skipped, with the reason, where the plugin or the subject lacks something. */
  check(
    name: string,
    needs: { capabilities: string[]; subject?: (keyof ConformanceSubject)[] },
    body: (session: Session) => Promise<void>,
  ): void
}

export async function openSession(subject: ConformanceSubject): Promise<Session> {
  const plugin = await loadPlugin(subject.plugin, { log: () => {}, ...(subject.directory && { directory: subject.directory }) })
  const connected = await plugin.connect(subject.options)
  const called = new Set<string>()
  const connection = recordingCalls(connected.connection, '', called)
  return {
    called,
    subject,
    plugin,
    connected,
    connection,
    before: { topology: await connection.discoverTopology({}), leftovers: (await subject.leftovers?.()) ?? [] },
    unknownVmId: subject.unknownVmId ?? randomUUID(),
    undo: [],
  }
}

/** The same object, whose functions note that they were called. */
function recordingCalls<Members extends object>(members: Members, prefix: string, called: Set<string>): Members {
  const wrapped = Object.entries(members).map(([name, member]: [string, unknown]) => {
    const path = `${prefix}${name}`
    if (typeof member === 'object' && member !== null) return [name, recordingCalls(member, `${path}.`, called)]
    if (typeof member !== 'function') return [name, member]
    return [
      name,
      (...args: unknown[]) => {
        called.add(path)
        return member(...args)
      },
    ]
  })
  return Object.fromEntries(wrapped) as Members
}

export async function closeSession(session: Session): Promise<void> {
  const failures: unknown[] = []
  for (const step of [...session.undo.toReversed(), () => session.connection.close(), async () => session.subject.cleanUp?.()])
    await step().catch((error: unknown) => failures.push(error))
  if (failures.length > 0) throw new AggregateError(failures, `Cleaning up after the suite failed: ${failures.map(String).join('; ')}`)
}

/**
 * Makes a changing call as faults would: the plugin's process is killed once it was done and before the answer; then it is sent again, and again.
 * Returns the answer, which has to be the same both times.
 */
export async function throughACrash<Answer>({ api, session }: Suite, path: string, call: () => Promise<Answer>): Promise<Answer> {
  await session().connected.crash.beforeAnswering(path)
  await api
    .expect(call(), `${path}, when the plugin's process is killed before it answers`)
    .rejects.toMatchObject({ code: 'PLUGIN_CRASHED', retryable: true })
  const second = await call()
  const third = await call()
  api.expect(third, `${path}, sent again`).toEqual(second)
  return second
}

/** Kills the plugin's process somewhere in the middle of a call, which may have been quicker. */
export async function killedAfter({ session }: Suite, afterMs: number, call: () => Promise<unknown>): Promise<void> {
  const outcome = call().then(
    () => undefined,
    (error: unknown) => error,
  )
  await delay(afterMs)
  await session().connected.crash.now()
  const error = await outcome
  if (error !== undefined && !(error instanceof ProviderError && error.code === 'PLUGIN_CRASHED')) throw error
}

/** A machine that the subject's image fits, on the first network that the topology shows. */
export async function newMachine({ subject, before }: Session, imagePath: string | undefined, name: string): Promise<NewVirtualMachine> {
  const sizeBytes = imagePath === undefined ? 64 * 1024 * 1024 : Math.ceil((await stat(imagePath)).size / 65_536) * 65_536
  const network = before.topology.networks[0]
  return {
    name,
    uniqueId: randomUUID(),
    cpuCount: 1,
    memoryBytes: subject.memoryBytes ?? 524_280 * 1024,
    firmware: 'BIOS',
    disks: [{ index: 0, sizeBytes }],
    nics: network ? [{ index: 0, mac: `52:54:00:${randomBytes(3).toString('hex').match(/../g)?.join(':')}`, networkId: network.id }] : [],
  }
}

/** Waits until the guest answers over HTTP through the way that `reachability` gives. */
export async function awaitGuest({ subject, connection }: Session, vmId: string): Promise<void> {
  const http = subject.guestHttp
  if (!http) return
  const deadline = performance.now() + http.bootTimeoutMs
  let last = 'it has no address that reaches it from here'
  while (performance.now() < deadline) {
    const { fromControlPlane: endpoint } = await connection.network.reachability({ vmId, guestPort: http.port })
    if (endpoint) {
      const answer = await fetch(`http://${endpoint.host}:${endpoint.port}${http.path}`, { signal: AbortSignal.timeout(5_000) }).catch(
        (error: unknown) => error,
      )
      if (answer instanceof Response && answer.ok) return
      last = answer instanceof Response ? `it answered ${answer.status}` : String(answer)
    }
    await delay(500)
  }
  throw new Error(`The guest of ${vmId} did not answer over HTTP within ${http.bootTimeoutMs / 1000} s: ${last}.`)
}

export const operation = (): { operationId: string } => ({ operationId: randomUUID() })

/** Names that were trouble for somebody. */
export const hostileNames = [
  '; rm -rf ~ #',
  '../../etc/passwd',
  '$(reboot)`reboot`',
  'quo\'te"d <b>&amp;',
  '🚚 déménagement',
  'x'.repeat(300),
  '-rf',
  'new\nline',
]
