/** A whole control plane, with plugins that are as careless with credentials as can be; then everything that it wrote or said is searched for them. */
import { spawn, type ChildProcess } from 'node:child_process'
import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { recordsOf } from './support/write-ahead-log.ts'

const root = resolve(import.meta.dirname, '../..')
const marker = () => randomBytes(15).toString('base64url')
const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' })
const credentials = {
  apiKey: marker(),
  password: `${marker()}"\\/é`,
  refreshToken: marker(),
  urlPassword: marker(),
  pemLine: pem.split('\n')[1]!,
}
/** As they are, as they look inside JSON and in an address, and in base64 wherever they begin in it, as after a user's name. */
const searched = Object.entries(credentials).flatMap(([name, value]) => [
  [name, value] as const,
  [name, JSON.stringify(value).slice(1, -1)] as const,
  [name, encodeURIComponent(value)] as const,
  ...['', 'x', 'xx'].map((before) => [`${name} in base64`, inBase64(before, value)] as const),
])

/** What any base64 of the value has in it, when so many bytes stand before it, whatever they and those behind it are. */
function inBase64(before: string, value: string): string {
  const bytes = Buffer.byteLength(before + value)
  return Buffer.from(before + value)
    .toString('base64')
    .slice(Math.ceil((before.length * 4) / 3), Math.floor((bytes * 4) / 3))
}

let directory: string
let controlPlane: ChildProcess
let url: string
let token: string
let said = ''

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-credentials-'))
  for (const id of ['east', 'west']) {
    await mkdir(join(directory, id))
    await writeFile(
      join(directory, `${id}.ts`),
      `import { leakyPlugin } from '${root}/test/secrets/support/leaky-plugin.ts'\nexport default leakyPlugin('${id}', '${randomUUID()}')\n`,
    )
  }
  const file = join(directory, 'portolan.config.json')
  await writeFile(
    file,
    JSON.stringify({
      dataDirectory: 'data',
      api: { port: 0 },
      agents: { listen: [{ host: '127.0.0.1', port: 0 }] },
      plugins: ['./east.ts', './west.ts'],
    }),
  )
  // With core files allowed, as on a machine where somebody looks into crashes; in a directory of its own, where they would lie.
  const limited = [
    '-c',
    'ulimit -S -c "$(ulimit -H -c)"; exec "$0" "$@"',
    process.execPath,
    join(root, 'src/main.ts'),
    '--config',
    file,
    '--json',
  ]
  controlPlane = spawn('sh', limited, { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] })
  for (const stream of [controlPlane.stdout!, controlPlane.stderr!]) stream.setEncoding('utf8').on('data', (text: string) => (said += text))
  for await (const line of createInterface({ input: controlPlane.stdout! })) {
    ;({ url, token } = (JSON.parse(line) as { ready: { url: string; token: string } }).ready)
    break
  }
})
afterAll(async () => {
  if (controlPlane.exitCode === null && controlPlane.signalCode === null) {
    controlPlane.kill('SIGKILL')
    await once(controlPlane, 'exit')
  }
  await rm(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
})

/** Everything that the API answered, as text. */
let answers = ''
async function run<Data>(query: string, input?: object): Promise<Data> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify({ query, variables: { input } }),
  })
  const text = await response.text()
  answers += text
  return (JSON.parse(text) as { data: Data }).data
}

const subscriptions: WebSocket[] = []
/** Whatever is said to a subscriber over a WebSocket, until it is closed. */
async function listen(query: string): Promise<void> {
  const socket = new WebSocket(url.replace('http', 'ws'), 'graphql-transport-ws', { headers: { authorization: `Bearer ${token}` } })
  subscriptions.push(socket)
  socket.on('message', (bytes: Buffer) => {
    const message = bytes.toString()
    answers += message
    if (message.includes('connection_ack')) socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query } }))
  })
  await once(socket, 'open')
  socket.send(JSON.stringify({ type: 'connection_init' }))
}
/** The same over SSE, to its end. */
async function hear(query: string, variables: object): Promise<void> {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}`, accept: 'text/event-stream' }
  answers += await (await fetch(url, { method: 'POST', headers, body: JSON.stringify({ query, variables }) })).text()
}

const error = '... on Error { code message remedy path }'
const connect = async (id: string, idempotencyKey: string) =>
  (
    await run<{ connectCloud: { code?: string; cloud?: { id: string } } } | null>(
      `mutation ($input: ConnectCloudInput!) { connectCloud(input: $input) { ... on ConnectCloudSuccess { cloud { id name problem state } } ${error} } }`,
      {
        idempotencyKey,
        name: id,
        pluginId: id,
        options: {
          directory: join(directory, id),
          apiKey: credentials.apiKey,
          account: { password: credentials.password, oauth: [{ refresh_token: credentials.refreshToken }] },
          endpoint: `https://robot:${credentials.urlPassword}@cloud.example/api`,
          guestAccess: [{ match: '*', user: 'root', privateKey: pem, hostKeys: ['ssh-ed25519 AAAA'] }],
        },
      },
    )
  )?.connectCloud ?? {}
const refresh = (cloudId: string, idempotencyKey: string) =>
  run<{ refreshTopology: { code?: string } }>(
    `mutation ($input: RefreshTopologyInput!) { refreshTopology(input: $input) { __typename ${error} } }`,
    { cloudId, idempotencyKey },
  )
const mode = (id: string, now: string) => writeFile(join(directory, id, 'mode'), now)

async function filesBelow(at: string): Promise<string[]> {
  const entries = await readdir(at, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
}

/** Of the engine's journal: what is in it, too. Nothing, of a file that its owner has replaced meanwhile. */
async function contentOf(file: string): Promise<Buffer> {
  const bytes = await readFile(file).catch(ignoreMissing)
  return file.startsWith(join(directory, 'data/engine')) && file.endsWith('.log') ? Buffer.concat([bytes, ...recordsOf(bytes)]) : bytes
}

function ignoreMissing(error: NodeJS.ErrnoException): Buffer {
  if (error.code !== 'ENOENT') throw error
  return Buffer.alloc(0)
}

/** The bare id that the API's id hides. */
async function holdsMigration(part: string, id: string): Promise<boolean> {
  const bare = Buffer.from(id, 'base64').toString().split(':').at(-1)!
  for (const file of await filesBelow(directory))
    if (file.startsWith(join(directory, part)) && (await contentOf(file)).includes(bare)) return true
  return false
}

async function foundIn(): Promise<string[]> {
  const found: string[] = []
  const look = (where: string, content: Buffer) => {
    for (const [name, value] of searched) if (content.includes(value)) found.push(`${name} in ${where}`)
  }
  look('the API', Buffer.from(answers))
  look('standard output or error', Buffer.from(said))
  for (const file of await filesBelow(directory)) look(file, await contentOf(file))
  return found
}

test('credentials are in no file, log, answer, metric or core file, whatever a plugin does with them', { timeout: 120_000 }, async () => {
  await listen('subscription { topologyChanges { clouds { name state problem } } }')
  for (const now of ['refuse', 'bug', 'abort', 'uncaught']) {
    await mode('east', now)
    expect(await connect('east', `east ${now}`)).not.toHaveProperty('cloud')
  }
  await mode('east', 'well')
  await mode('west', 'well')
  const east = (await connect('east', 'east well')).cloud!.id
  const west = (await connect('west', 'west well')).cloud!.id
  for (const now of ['refuse', 'bug', 'abort', 'uncaught']) {
    await mode('west', now)
    await refresh(west, `west ${now}`)
    await run('{ clouds { nodes { name state problem } } }')
  }
  await mode('west', 'well')
  await refresh(west, 'west well')

  const { clouds } = await run<{ clouds: { nodes: { id: string; virtualMachines: { nodes: { id: string }[] } }[] } }>(
    '{ clouds { nodes { id virtualMachines { nodes { id name } } } } }',
  )
  const sourceVirtualMachineId = clouds.nodes.find(({ id }) => id === east)!.virtualMachines.nodes[0]!.id
  const request = { sourceVirtualMachineId, destinationCloudId: west, healthCheck: { tcp: { port: 22 } }, idempotencyKey: 'start' }
  await run(
    `mutation ($input: ValidateMigrationInput!) { validateMigration(input: $input) { ... on ValidateMigrationSuccess { canStart findings { code message } } ${error} } }`,
    request,
  )
  const { startMigration } = await run<{ startMigration: { migration: { id: string } } }>(
    `mutation ($input: StartMigrationInput!) { startMigration(input: $input) { ... on StartMigrationSuccess { migration { id } } ${error} } }`,
    request,
  )
  const migrationId = startMigration.migration.id
  const history = '{ migrations { nodes { state error { code message remedy } events { nodes { message } } findings { message } } } }'
  await expect
    .poll(async () => JSON.stringify(await run(history)), { timeout: 60_000, interval: 300 })
    .toMatch(/"state":"(FAILED|CANCELLED|COMPLETED|ROLLED_BACK)"/)

  await hear(
    'subscription ($id: ID!) { migrationProgress(migrationId: $id) { error { message remedy } findings { message } events { nodes { message } } } }',
    { id: migrationId },
  )
  await hear('subscription ($id: ID!) { migrationEvents(migrationId: $id) { message } }', { id: migrationId })
  expect(answers).toMatch(/"topologyChanges":.*"problem":"[^"]+/)
  expect(answers).toMatch(/"migrationEvents":\{"message":"[^"]+/)
  for (const socket of subscriptions) socket.close()

  await run('{ auditEntries(first: 100) { nodes { mutation input outcome errorCode } } plugins { optionsSchema } }')
  answers += await (await fetch(new URL('/metrics', url), { headers: { authorization: `Bearer ${token}` } })).text()
  answers += await (await fetch(url, { headers: { accept: 'text/html' } })).text()

  expect(said).toContain('[secret]')
  expect(answers).toContain('[secret]')
  // What is looked through is there: the database and the engine's journal, with this migration in both.
  for (const part of ['data/portolan.db', 'data/engine/'])
    expect(
      await holdsMigration(part, migrationId),
      `the migration was found nowhere in ${part}, so it says nothing that no credential was`,
    ).toBe(true)
  // What the engine has not moved out of its log is in the log; tables that it moved it to would have to be unpacked, too.
  expect((await filesBelow(join(directory, 'data/engine'))).filter((file) => file.endsWith('.sst'))).toEqual([])
  expect(await foundIn()).toEqual([])

  controlPlane.kill('SIGABRT')
  const [, signal] = (await once(controlPlane, 'exit')) as [number | null, string | null]
  expect(signal).toBe('SIGABRT')
  expect((await filesBelow(directory)).filter((file) => /(^|\/)core(\.|$)/.test(file))).toEqual([])
  expect(await foundIn()).toEqual([])
})
