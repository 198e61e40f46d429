import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ConfigurationInput } from '../../src/configuration.ts'
import { connectCloud } from '../../src/cli/demo-migration.ts'
import { startControlPlane, type ControlPlaneProcess } from '../../src/cli/control-plane-process.ts'
import { createGraphqlClient } from '../../src/cli/graphql-client.ts'

/** The control plane is started as `npm start` does it, with what a user may get wrong: it ends at once, with one sentence, having started and changed nothing. */

const root = resolve(import.meta.dirname, '../..')
const qemu = join(root, 'plugins/qemu')

let directory: string
let running: ControlPlaneProcess[]
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'refused-'))
  running = []
})
afterEach(async () => {
  await Promise.all(running.map((controlPlane) => controlPlane.stop()))
  await rm(directory, { recursive: true, force: true })
})

/** Everything free of choice, so that nothing but what a test is about can go wrong. */
const sound = { api: { port: 0 }, agents: { listen: [{ host: '127.0.0.1', port: 0 }] } }

async function start(configuration: ConfigurationInput = {}): Promise<ControlPlaneProcess> {
  const controlPlane = await startControlPlane(directory, { ...sound, ...configuration })
  running.push(controlPlane)
  return controlPlane
}

/** Starts it, expects it to end by itself, and gives the sentence that it ends with. */
async function refusal(configuration: unknown, environment: Record<string, string> = {}): Promise<string> {
  const file = join(directory, 'portolan.config.json')
  await writeFile(file, typeof configuration === 'string' ? configuration : JSON.stringify({ ...sound, ...(configuration as object) }))
  const child = spawn(process.execPath, [join(root, 'src/main.ts'), '--config', file], {
    cwd: root,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  let answered = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
  child.stdout.setEncoding('utf8').on('data', (text: string) => (answered += text))
  const [code] = (await once(child, 'close')) as [number | null]
  expect(code, said).toBe(1)
  expect(answered).toBe('')
  // The log may tell more, as JSON; one line is for people.
  const sentences = said.split('\n').filter((line) => line !== '' && !line.startsWith('{'))
  expect(sentences).toEqual([expect.stringMatching(/^portolan: .+\.$/)])
  return sentences[0]!
}

async function pluginFile(name: string, source: string): Promise<string> {
  const file = join(directory, name)
  await writeFile(file, source)
  return file
}

describe('a plugin that can not be used', () => {
  test('written for another major version of the contract: both versions are named', async () => {
    const plugin = await pluginFile(
      'future.mjs',
      `export default { id: 'future', apiVersion: { major: 7, minor: 0 }, options: { '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value }) } }, connect: async () => ({}) }`,
    )
    const sentence = await refusal({ plugins: [plugin] })
    expect(await readdir(join(directory, 'data'))).not.toContain('portolan.db')
    expect(sentence).toContain('future.mjs')
    expect(sentence).toContain('version 7')
    expect(sentence).toContain('version 1')
    expect(sentence).toMatch(/Install a version/)
  })

  test('a module that does not parse, throws, or exports something else', async () => {
    for (const [name, source] of [
      ['broken.mjs', 'export default {{{'],
      ['throws.mjs', `throw new Error('no licence found')`],
      ['ends.mjs', 'process.exit(3)'],
      ['other.mjs', 'export default 42'],
    ] as const) {
      const sentence = await refusal({ plugins: [await pluginFile(name, source)] })
      expect(sentence).toContain(name)
      expect(sentence.length).toBeLessThan(600)
    }
  })

  test('one that is not there, and two with one id', async () => {
    expect(await refusal({ plugins: ['./nowhere'] })).toMatch(/"\.\/nowhere" is not there/)
    expect(await refusal({ plugins: ['portolan-plugin-nobody-wrote'] })).toMatch(/npm install portolan-plugin-nobody-wrote/)
    expect(await refusal({ plugins: [qemu, qemu] })).toMatch(/both have the id "qemu"/)
  })
})

describe('a configuration that can not be used', () => {
  test('an unknown entry, a wrong value, no JSON', async () => {
    expect(await refusal({ pluginz: [] })).toContain('pluginz')
    expect(await refusal({ api: { port: 70_000 } })).toContain('api.port')
    expect(await refusal('{ "plugins": [')).toContain('portolan.config.json')
  })

  test('an address that is taken', async () => {
    const controlPlane = await start()
    const { port } = new URL(controlPlane.url)
    const sentence = await refusal({ dataDirectory: join(directory, 'other'), api: { port: Number(port) } })
    expect(sentence).toMatch(new RegExp(`127.0.0.1:${port} .*in use.*api.port`))
  })
})

describe('data that is there', () => {
  test('a second start on the same data is refused, and the first one goes on', async () => {
    const first = await start()
    const sentence = await refusal({ dataDirectory: join(directory, 'data') })
    expect(sentence).toContain('Another control plane runs on the data directory')
    expect((await fetch(new URL('/ready', first.url))).status).toBe(200)
  })

  test('SIGTERM ends it with exit code 0, also when it comes twice, and the same data starts again', async () => {
    for (let round = 0; round < 2; round++) {
      const { process: child } = await start()
      child.kill('SIGTERM')
      setTimeout(() => child.kill('SIGTERM'), 20)
      const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
      expect({ code, signal }).toEqual({ code: 0, signal: null })
    }
  })

  test('a lost or another seal key: it does not make do with a new one, and the old one still opens everything', async () => {
    const first = await start({ plugins: [qemu] })
    const api = createGraphqlClient(first.url, first.token)
    await connectCloud(api, { name: 'east', pluginId: 'qemu', options: { stateDirectory: join(directory, 'east') } })
    await first.stop()
    const data = { dataDirectory: join(directory, 'data'), plugins: [qemu] }

    expect(await refusal(data, { PORTOLAN_SEAL_KEY: 'ab'.repeat(32) })).toMatch(/sealed with key .* start again with the key/)
    expect(await refusal(data, { PORTOLAN_SEAL_KEY: 'too short' })).toContain('PORTOLAN_SEAL_KEY')
    const key = await readFile(join(directory, 'data/seal.key'), 'utf8')
    await rm(join(directory, 'data/seal.key'))
    const sentence = await refusal(data)
    expect(sentence).toContain('seal.key')
    expect(sentence).toMatch(/restore/i)
    expect(await readdir(join(directory, 'data'))).not.toContain('seal.key')

    await writeFile(join(directory, 'data/seal.key'), key, { mode: 0o600 })
    const again = await start({ plugins: [qemu] })
    const { clouds } = await createGraphqlClient(again.url, first.token).run<{ clouds: { nodes: unknown[] } }>(
      'query { clouds(first: 10) { nodes { name state } } }',
    )
    expect(clouds.nodes).toEqual([{ name: 'east', state: 'CONNECTED' }])
  })
})
