import { ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { PluginLog } from '../../../src/plugin-sdk/contract.ts'
import { loadPlugin } from '../../../src/plugin-sdk/registry/load-plugin.ts'
import { usualLimits, type CallLimits, type PluginConnection } from '../../../src/plugin-sdk/registry/plugin-connection.ts'
import { openPluginRegistry } from '../../../src/plugin-sdk/registry/plugin-registry.ts'

const example = join(import.meta.dirname, '../example-plugin')
const sdk = join(import.meta.dirname, '../../../src/plugin-sdk/index.ts')

let directory: string
let open: PluginConnection[]
let logged: unknown[][]
const log: PluginLog = (...record) => void logged.push(record)

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-plugin-'))
  open = []
  logged = []
})
afterEach(async () => {
  await Promise.all(open.map(({ connection }) => connection.close()))
  await rm(directory, { recursive: true, force: true })
})

async function connect(options: { limits?: Partial<CallLimits>; more?: Record<string, unknown> } = {}): Promise<PluginConnection> {
  const plugin = await loadPlugin(example, { log, ...(options.limits && { limits: options.limits }) })
  const connected = await plugin.connect({ directory, ...options.more })
  open.push(connected)
  return connected
}
const describeVm = (from: PluginConnection, vmId: string, signal?: AbortSignal) =>
  from.connection.virtualMachines.describe({ vmId, ...(signal && { signal }) })
const pidOf = async (from: PluginConnection) => (await describeVm(from, 'pid')).id
const connects = async () => (await readFile(join(directory, 'connects'), 'utf8')).trim().split('\n').length

describe('a loaded plugin', () => {
  test('tells its id, version and options', async () => {
    const plugin = await loadPlugin(example, { log })
    expect(plugin).toMatchObject({
      id: 'example',
      apiVersion: { major: 1 },
      optionsJsonSchema: { properties: { directory: { type: 'string' } } },
    })
  })

  test('names the option that is wrong', async () => {
    const plugin = await loadPlugin(example, { log })
    await plugin.validateOptions({ directory })
    await expect(plugin.validateOptions({ directory, colour: 'red' })).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
      message: expect.stringContaining('colour'),
    })
    await expect(plugin.connect({ directory: 5 })).rejects.toMatchObject({ code: 'INVALID_OPTIONS', path: ['options', 'directory'] })
  })

  test('passes on what connecting throws', async () => {
    await expect(connect({ more: { failToConnect: true } })).rejects.toMatchObject({
      code: 'UNAUTHORIZED',
      remedy: 'Get another.',
      path: ['options', 'apiToken'],
    })
  })
})

describe('a connection', () => {
  test('has the members that the plugin has, and no others', async () => {
    const connected = await connect()
    expect(connected.capabilities).toEqual(['copyGuestData.method', 'records.list', 'records.put', 'virtualMachines.describe'])
    expect(connected.connection.copyGuestData).toEqual({ method: 'agent-to-agent' })
    expect('destination' in connected.connection).toBe(false)
    expect('create' in connected.connection.virtualMachines).toBe(false)
  })

  test('carries calls, answers and typed errors', async () => {
    const { connection } = await connect()
    const record = { key: 'a', writtenAt: '2026-01-01T00:00:00Z', content: { n: 1 } }
    await connection.records.put({ operationId: 'one', record })
    expect(await connection.records.list({ keyPrefix: '' })).toMatchObject([record])
    await expect(connection.virtualMachines.describe({ vmId: 'not-found' })).rejects.toMatchObject({
      name: 'ProviderError',
      code: 'NOT_FOUND',
      message: 'No not-found.',
      retryable: false,
      remedy: 'Look.',
      path: ['vmId'],
      vmOwner: 'source',
    })
  })

  test("turns the plugin's own mistakes into INTERNAL", async () => {
    const connected = await connect()
    await expect(describeVm(connected, 'bug')).rejects.toMatchObject({
      code: 'INTERNAL',
      message: expect.stringContaining('x is not a function'),
    })
    await expect(describeVm(connected, 'unclonable')).rejects.toMatchObject({ code: 'INTERNAL' })
    expect(await connects()).toBe(1)
  })

  test('closes the plugin in order and refuses calls afterwards', async () => {
    const connected = await connect()
    await connected.connection.close()
    expect(await readFile(join(directory, 'closed'), 'utf8')).toBe('yes')
    await expect(pidOf(connected)).rejects.toThrow('closed')
  })
})

describe('a plugin that dies', () => {
  test.each([
    ['crash', 'exit code 3'],
    ['unhandled-rejection', 'nobody caught me'],
    ['uncaught-exception', 'thrown in a callback'],
  ])('by %s costs one typed error, and the next call finds it started again', async (how, message) => {
    const connected = await connect()
    const before = await pidOf(connected)
    await expect(describeVm(connected, how)).rejects.toMatchObject({
      code: 'PLUGIN_CRASHED',
      retryable: true,
      message: expect.stringContaining(message),
    })
    expect(await pidOf(connected)).not.toBe(before)
    expect(await connects()).toBe(2)
  })

  test('is told that its site was there before when it is started again', async () => {
    const connected = await connect()
    await expect(describeVm(connected, 'crash')).rejects.toMatchObject({ code: 'PLUGIN_CRASHED' })
    await pidOf(connected)
    expect(await readFile(join(directory, 'connects'), 'utf8')).toMatch(/^\d+ new\n\d+ known\n$/)
  })

  test('takes its other calls with it, each with the same error, and is started once for all', async () => {
    const connected = await connect()
    const calls = [describeVm(connected, 'hang'), describeVm(connected, 'hang'), describeVm(connected, 'crash')]
    for (const call of await Promise.allSettled(calls))
      expect(call).toMatchObject({ status: 'rejected', reason: { code: 'PLUGIN_CRASHED' } })
    const pids = await Promise.all([pidOf(connected), pidOf(connected), pidOf(connected)])
    expect(new Set(pids).size).toBe(1)
  })

  test('is started later and later', async () => {
    const connected = await connect()
    for (let crash = 0; crash < 3; crash++) await expect(describeVm(connected, 'crash')).rejects.toMatchObject({ code: 'PLUGIN_CRASHED' })
    const ends = logged.filter(([, message]) => String(message).includes('process ended'))
    expect(ends.map((record) => record[2])).toMatchObject([
      { crashesInTheLastMinute: 1 },
      { crashesInTheLastMinute: 2 },
      { crashesInTheLastMinute: 3 },
    ])
    await pidOf(connected)
  })

  test('between doing and answering has done it', async () => {
    const connected = await connect()
    await connected.crash.beforeAnswering('records.put')
    const put = connected.connection.records.put({
      operationId: 'one',
      record: { key: 'a', writtenAt: '2026-01-01T00:00:00Z', content: {} },
    })
    await expect(put).rejects.toMatchObject({ code: 'PLUGIN_CRASHED' })
    expect(await connected.connection.records.list({ keyPrefix: '' })).toHaveLength(1)
  })
})

describe('a plugin that leaves a process behind which holds its output open', () => {
  async function leaveProcess(connected: PluginConnection): Promise<void> {
    const pid = Number((await describeVm(connected, 'leave-a-process')).id)
    onTestFinished(() => void process.kill(pid, 'SIGKILL'))
  }

  test('is noticed when it dies, and the next call finds it started again', async () => {
    const connected = await connect()
    const before = await pidOf(connected)
    await leaveProcess(connected)
    await expect(describeVm(connected, 'crash')).rejects.toMatchObject({
      code: 'PLUGIN_CRASHED',
      message: expect.stringContaining('exit code 3'),
    })
    expect(await pidOf(connected)).not.toBe(before)
  })

  test('is closed all the same', async () => {
    const connected = await connect()
    await leaveProcess(connected)
    await connected.connection.close()
    expect(await readFile(join(directory, 'closed'), 'utf8')).toBe('yes')
  })
})

test('a plugin whose process does not end though it was killed costs its calls an error, and the next call finds it started again', async () => {
  const connected = await connect()
  const before = await pidOf(connected)
  const kill = vi.spyOn(ChildProcess.prototype, 'kill').mockReturnValue(true)
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const ended = Promise.allSettled([describeVm(connected, 'hang'), connected.crash.now()])
  await vi.advanceTimersByTimeAsync(10_000)
  vi.useRealTimers()
  kill.mockRestore()
  process.kill(Number(before), 'SIGKILL')
  expect(await ended).toMatchObject([
    { status: 'rejected', reason: { code: 'PLUGIN_CRASHED', message: expect.stringContaining('did not end though it was killed') } },
    { status: 'fulfilled' },
  ])
  expect(await pidOf(connected)).not.toBe(before)
})

describe('a plugin that hangs', () => {
  const limits = { callTimeoutMs: () => 200, graceMs: 100 }

  test.each(['hang', 'spin'])('by %s is TIMED_OUT, killed, and started again', async (how) => {
    const connected = await connect({ limits })
    const before = await pidOf(connected)
    await expect(describeVm(connected, how)).rejects.toMatchObject({ code: 'TIMED_OUT', retryable: true })
    expect(await pidOf(connected)).not.toBe(before)
  })

  test('with its event loop is ended long before the time that its call may take', async () => {
    const connected = await connect({ limits: { unresponsiveMs: 3_000 } })
    await expect(describeVm(connected, 'spin')).rejects.toMatchObject({
      code: 'TIMED_OUT',
      message: expect.stringContaining('no sign of life'),
    })
  })

  test('but stops when told keeps its process', async () => {
    const connected = await connect({ limits: { callTimeoutMs: () => 200, graceMs: 10_000 } })
    const before = await pidOf(connected)
    await expect(describeVm(connected, 'stop-when-told')).rejects.toMatchObject({ code: 'TIMED_OUT' })
    expect(await pidOf(connected)).toBe(before)
  })
})

describe('a cancelled call', () => {
  test('rejects only after the plugin has stopped', async () => {
    const connected = await connect()
    const cancel = new AbortController()
    const call = describeVm(connected, 'stop-slowly', cancel.signal)
    await pidOf(connected) // answered in order of arrival: the call has begun
    cancel.abort()
    await expect(call).rejects.toMatchObject({ code: 'CANCELLED' })
    expect(await readFile(join(directory, 'stopped'), 'utf8')).toBe('yes')
  })

  test('that was done all the same is answered', async () => {
    const connected = await connect()
    const cancel = new AbortController()
    const call = describeVm(connected, 'finish-anyway', cancel.signal)
    await pidOf(connected) // answered in order of arrival: the call has begun
    cancel.abort()
    expect(await call).toEqual({ id: 'finished' })
  })

  test('that does not stop ends with its process', async () => {
    const connected = await connect({ limits: { graceMs: 100 } })
    const before = await pidOf(connected)
    const cancel = new AbortController()
    const call = describeVm(connected, 'hang', cancel.signal)
    await pidOf(connected) // answered in order of arrival: the call has begun
    cancel.abort()
    await expect(call).rejects.toMatchObject({ code: 'CANCELLED' })
    expect(await pidOf(connected)).not.toBe(before)
  })

  test('that does not stop costs the others under way a crash, not their cancelling', async () => {
    const connected = await connect({ limits: { graceMs: 100 } })
    const cancel = new AbortController()
    const calls = Promise.allSettled([describeVm(connected, 'hang', cancel.signal), describeVm(connected, 'hang')])
    await pidOf(connected) // answered in order of arrival: the calls have begun
    cancel.abort()
    expect(await calls).toMatchObject([{ reason: { code: 'CANCELLED' } }, { reason: { code: 'PLUGIN_CRASHED', retryable: true } }])
  })

  test('that was cancelled before is not sent', async () => {
    const connected = await connect()
    await expect(describeVm(connected, 'crash', AbortSignal.abort())).rejects.toMatchObject({ code: 'CANCELLED' })
    expect(await connects()).toBe(1)
  })
})

test('a plugin does not outlive a control plane that was killed', async () => {
  const loader = join(import.meta.dirname, '../../../src/plugin-sdk/registry/load-plugin.ts')
  const program = `import { loadPlugin } from ${JSON.stringify(loader)}
    const plugin = await loadPlugin(${JSON.stringify(example)}, { log() {} })
    const { connection } = await plugin.connect({ directory: ${JSON.stringify(directory)} })
    console.log((await connection.virtualMachines.describe({ vmId: 'pid' })).id)`
  const controlPlane = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [output] = (await once(controlPlane.stdout, 'data')) as [Buffer]
  const pid = Number(output.toString())
  expect(() => process.kill(pid, 0)).not.toThrow()
  controlPlane.kill('SIGKILL')
  await vi.waitFor(() => expect(() => process.kill(pid, 0)).toThrow('ESRCH'), { timeout: 20_000 })
})

test("secrets of the options reach neither the log nor the process's arguments and environment", async () => {
  process.env['PORTOLAN_TEST_SECRET'] = 'withheld-value'
  const connected = await connect({ more: { apiToken: 's3cr3t-t0ken' } })
  const seen = (await describeVm(connected, 'environment')).id
  delete process.env['PORTOLAN_TEST_SECRET']
  expect(seen).not.toContain('s3cr3t')
  expect(seen).not.toContain('withheld-value')
  expect(JSON.stringify(logged)).toContain('token=[secret]')
  expect(JSON.stringify(logged)).not.toContain('s3cr3t')
})

describe('refused at start, in one sentence:', () => {
  const valid = `import { definePlugin } from ${JSON.stringify(sdk)}
    const options = { '~standard': { version: 1, vendor: 'none', validate: (value) => ({ value }) } }
    export default definePlugin({ id: 'mine', apiVersion: { major: 1, minor: 0 }, options, connect: () => Promise.resolve({}) })`

  test.each([
    [
      'another contract version',
      valid.replace('major: 1', 'major: 2'),
      'INCOMPATIBLE_PLUGIN',
      'version 2 of the provider contract, and this Portolan speaks version 1',
    ],
    ['a syntax error', 'export default {', 'INCOMPATIBLE_PLUGIN', 'SyntaxError'],
    ['a missing import', "import 'not-installed-anywhere'", 'INCOMPATIBLE_PLUGIN', 'not-installed-anywhere'],
    ['no default export', 'export const plugin = 1', 'INCOMPATIBLE_PLUGIN', 'no default export'],
    ['something else as default export', 'export default { id: "mine" }', 'INCOMPATIBLE_PLUGIN', 'apiVersion'],
    ['a strange id', valid.replace("'mine'", "'../Mine'"), 'INCOMPATIBLE_PLUGIN', 'its id'],
    ['a module that throws', 'throw new Error("broken on purpose")', 'INCOMPATIBLE_PLUGIN', 'broken on purpose'],
    ['a module that ends the process', 'process.exit(9)', 'PLUGIN_CRASHED', 'exit code 9'],
  ])('%s', async (_, source, code, message) => {
    await writeFile(join(directory, 'plugin.mjs'), source)
    await expect(loadPlugin('./plugin.mjs', { log, directory })).rejects.toMatchObject({ code, message: expect.stringContaining(message) })
  })

  test('two plugins with one id', async () => {
    await writeFile(join(directory, 'one.mjs'), valid)
    await writeFile(join(directory, 'two.mjs'), valid)
    await expect(openPluginRegistry(['./one.mjs', './two.mjs'], { log, directory })).rejects.toMatchObject({
      code: 'INCOMPATIBLE_PLUGIN',
      message: 'The plugins "./one.mjs" and "./two.mjs" both have the id "mine".',
    })
  })

  test('a plugin that is not there, with the remedy', async () => {
    await expect(loadPlugin('portolan-plugin-none', { log, directory })).rejects.toMatchObject({
      code: 'NOT_FOUND',
      remedy: expect.stringContaining('npm install portolan-plugin-none'),
    })
    await expect(loadPlugin('./none', { log, directory })).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining(directory),
    })
  })

  test('an unknown plugin id, naming those that are there', async () => {
    const registry = await openPluginRegistry([example], { log })
    await expect(registry.connect('aws', {})).rejects.toMatchObject({ code: 'NOT_FOUND', message: expect.stringContaining('example') })
  })
})

test('a package is found by name in node_modules above, by its exports', async () => {
  const packageDirectory = join(directory, 'node_modules', '@me', 'plugin')
  await mkdir(join(packageDirectory, 'lib'), { recursive: true })
  await writeFile(join(packageDirectory, 'package.json'), JSON.stringify({ exports: { '.': { import: './lib/main.mjs' } } }))
  await writeFile(join(packageDirectory, 'lib', 'main.mjs'), `export { default } from ${JSON.stringify(join(example, 'index.ts'))}`)
  await mkdir(join(directory, 'deeper'))
  expect((await loadPlugin('@me/plugin', { log, directory: join(directory, 'deeper') })).id).toBe('example')
})

test('the registry connects by id and closes what is open', async () => {
  const registry = await openPluginRegistry([example], { log })
  expect((await registry.list()).map(({ id }) => id)).toEqual(['example'])
  await registry.connect('example', { directory })
  await registry.close()
  expect(await readFile(join(directory, 'closed'), 'utf8')).toBe('yes')
})

test.each(['destination.testBoot.remove', 'destination.discardOverlay'])('%s may take as long as any other merge', (path) => {
  expect(usualLimits.callTimeoutMs(path)).toBe(usualLimits.callTimeoutMs('destination.flattenOverlay'))
})
