/**
 * Runs in a child process: one plugin, at most one connection. The control plane is its only reason to live: when the channel closes, it ends.
 * An unhandled rejection or exception ends it too, as Node does by default, and that is what isolates the control plane from it.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec'
import { contractVersion, type Plugin, type PluginLog } from './contract.ts'
import { ProviderError } from './errors.ts'
import {
  type ConnectionShape,
  cancelledRecord,
  type FromPlugin,
  errorRecord,
  type PluginDeclaration,
  type ToPlugin,
} from './registry/plugin-protocol.ts'

const running = new Map<number, AbortController>()
const dieBeforeAnswering = new Set<string>()
let plugin: Plugin | undefined
let connection: object | undefined

process.on('disconnect', () => process.exit(0))
// A Ctrl-C or a stop of the service reaches this process too, but the control plane may need it to end in order.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => {})

process.on('message', (message: ToPlugin) => {
  if (message.kind === 'cancel') running.get(message.id)?.abort()
  else if (message.kind === 'ping') send({ kind: 'pong' })
  else if (message.kind === 'dieBeforeAnswering') dieBeforeAnswering.add(message.path)
  else void settle(message)
})

async function settle(request: Extract<ToPlugin, { id: number }> & { kind: 'load' | 'validate' | 'connect' | 'call' }): Promise<void> {
  const cancel = new AbortController()
  running.set(request.id, cancel)
  let answer: FromPlugin
  try {
    answer = { kind: 'settled', id: request.id, value: await perform(request, cancel.signal) }
  } catch (thrown) {
    answer = {
      kind: 'failed',
      id: request.id,
      error: thrown === cancel.signal.reason && cancel.signal.aborted ? cancelledRecord : errorRecord(thrown, cancel.signal.aborted),
    }
  }
  running.delete(request.id)
  if (request.kind === 'call' && dieBeforeAnswering.has(request.path.join('.'))) process.kill(process.pid, 'SIGKILL')
  try {
    send(answer)
  } catch (notClonable) {
    send({ kind: 'failed', id: request.id, error: errorRecord(notClonable, false) })
  }
}

function perform(request: Exclude<ToPlugin, { kind: 'cancel' | 'ping' | 'dieBeforeAnswering' }>, signal: AbortSignal): Promise<unknown> {
  switch (request.kind) {
    case 'load':
      return load(request.url)
    case 'validate':
      return validate(request.options)
    case 'connect':
      return connect(request, signal)
    case 'call':
      return call(request.path, request.args, signal)
  }
}

async function load(url: string): Promise<PluginDeclaration> {
  const module = (await import(url).catch((error: unknown) => {
    throw refusal(`its module can't be loaded: ${String(error)}`, "Correct the plugin's module, or install what it imports.", error)
  })) as { default?: unknown }
  plugin = requirePlugin(module.default)
  return { id: plugin.id, apiVersion: plugin.apiVersion, optionsJsonSchema: jsonSchemaOf(plugin.options) }
}

function requirePlugin(candidate: unknown): Plugin {
  const remedy = "Let the module's default export be what definePlugin returned (see docs/writing-a-plugin.md)."
  if (typeof candidate !== 'object' || candidate === null) throw refusal('its module has no default export that is a plugin', remedy)
  const { id, apiVersion, options, connect } = candidate as Partial<Plugin>
  if (typeof id !== 'string' || !/^[a-z][a-z0-9-]{0,39}$/.test(id))
    throw refusal('its id is not a short name of lower-case letters, digits and dashes', remedy)
  if (typeof apiVersion?.major !== 'number' || typeof apiVersion.minor !== 'number')
    throw refusal('it does not say which version of the provider contract it was written for (apiVersion)', remedy)
  if (apiVersion.major !== contractVersion.major)
    throw refusal(
      `it was written for version ${apiVersion.major} of the provider contract, and this Portolan speaks version ${contractVersion.major}`,
      'Install a version of the plugin, or of Portolan, so that the two agree.',
    )
  if (typeof options?.['~standard']?.validate !== 'function') throw refusal('its options are not a Standard Schema', remedy)
  if (typeof connect !== 'function') throw refusal('it has no function connect', remedy)
  return candidate as Plugin
}

/** Where the schema's library can tell (zod can). */
function jsonSchemaOf(schema: StandardSchemaV1): Record<string, unknown> | null {
  const standard = schema['~standard'] as { jsonSchema?: { input(options: { target: string }): Record<string, unknown> } }
  try {
    return standard.jsonSchema?.input({ target: 'draft-2020-12' }) ?? null
  } catch {
    return null // some types have no JSON form; validation works all the same
  }
}

async function validate(options: unknown): Promise<void> {
  await validated(options)
}

async function validated(options: unknown): Promise<unknown> {
  const result = await loaded().options['~standard'].validate(options)
  if (!result.issues) return result.value
  const [issue] = result.issues
  const path = (issue?.path ?? []).map((part) => String(typeof part === 'object' ? part.key : part))
  throw new ProviderError(
    'INVALID_OPTIONS',
    `The options for ${loaded().id} are not valid: ${path.length > 0 ? `${path.join('.')}: ` : ''}${issue?.message}`,
    {
      retryable: false,
      remedy: 'Correct the option named.',
      path: ['options', ...path],
    },
  )
}

async function connect({ options, known }: { options: unknown; known: boolean }, signal: AbortSignal): Promise<ConnectionShape> {
  connection = await loaded().connect(await validated(options), { known, signal, log })
  const shape: ConnectionShape = { functions: [], values: [] }
  describe(connection, [], shape)
  return shape
}

/** Members of the object and of plain objects in it; null and undefined count as absent. */
function describe(object: object, path: string[], shape: ConnectionShape): void {
  for (const [name, member] of Object.entries(object) as [string, unknown][]) {
    if (member === undefined || member === null) continue
    if (typeof member === 'function') shape.functions.push([...path, name])
    else if (typeof member === 'object' && !Array.isArray(member)) describe(member, [...path, name], shape)
    else shape.values.push({ path: [...path, name], value: member })
  }
}

async function call(path: string[], args: unknown[], signal: AbortSignal): Promise<unknown> {
  let owner: unknown = connection
  for (const name of path.slice(0, -1)) owner = (owner as Record<string, unknown> | undefined)?.[name]
  const member = (owner as Record<string, unknown> | undefined)?.[path.at(-1) ?? '']
  if (typeof member !== 'function') throw new Error(`${path.join('.')} is not there.`)
  const [first, ...rest] = args
  const withSignal = typeof first === 'object' && first !== null ? [{ ...first, signal }, ...rest] : args
  return await Reflect.apply(member, owner, withSignal)
}

const log: PluginLog = (level, message, fields = {}) => {
  try {
    send({ kind: 'log', level, message, fields })
  } catch {
    send({ kind: 'log', level, message, fields: { unloggable: 'the fields held something that cannot be copied' } })
  }
}

function loaded(): Plugin {
  if (!plugin) throw new Error('The plugin is not loaded yet.')
  return plugin
}

function send(message: FromPlugin): void {
  process.send?.(message)
}

function refusal(why: string, remedy: string, cause?: unknown): ProviderError {
  return new ProviderError('INCOMPATIBLE_PLUGIN', why, { retryable: false, remedy, cause })
}
