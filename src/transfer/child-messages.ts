/**
 * What the control plane and the runtime inside a parent or child VM say to each other over the VM's serial port: one JSON message a line, UTF-8. The guest speaks first, with
 * HELLO. Whatever runs in a child may write to the port, so nothing that comes from it is taken as it is.
 *
 *   WARM_UP → READY | WARM_UP_FAILED        once in a parent, which is saved after it
 *   IDENTITY → IDENTIFIED                   first in every child
 *   PROGRAM → PROGRAM_READY | PROGRAM_FAILED
 *   COMPONENT → STARTED, then RESULT | TASK_FAILED for each of its tasks, with LOG, SEND and BARRIER in between
 */
import { TransferError } from './transfer-error.ts'

/** The longest line, without its end. */
export const maxLineBytes = 8 << 20
/** The longest output of a task, and body of a message, as JSON. */
export const maxValueBytes = 1 << 20
/** What a task logs beyond this is left out by the guest; a message holds no more. */
export const maxLogLength = 65_536

export interface ChildTask {
  index: number
  /** Counts from 1; what an earlier attempt still answers is known by it. */
  attempt: number
  input: unknown
  interactsWith: readonly number[]
}

export type ToChild =
  | { type: 'WARM_UP'; program: string | null }
  /** `id`: a UUID. `entropy`: base64 of 64 bytes or more that no other child gets. `unixMs` is the clock at the moment of sending. */
  | { type: 'IDENTITY'; id: string; name: string; mac: string | null; unixMs: number; entropy: string }
  | { type: 'PROGRAM'; source: string; shared: Readonly<Record<string, string>>; taskTimeoutMs: number }
  /** Tasks that run at the same time; components run one after the other, in the order in which they were sent. */
  | { type: 'COMPONENT'; tasks: readonly ChildTask[] }
  | { type: 'MESSAGE'; from: number; to: number; body: unknown }
  /** Lets these tasks go on that wait at the barrier. */
  | { type: 'BARRIER_OPEN'; name: string; tasks: readonly number[] }

export type FromChild =
  | { type: 'HELLO'; runtime: 'node' | 'python'; version: string; libraries: Record<string, string>; protocol: number }
  | { type: 'READY'; libraries: Record<string, string>; warmUpMs: number }
  | { type: 'WARM_UP_FAILED'; message: string }
  | { type: 'IDENTIFIED' }
  | { type: 'PROGRAM_READY' }
  | { type: 'PROGRAM_FAILED'; message: string }
  /** Sent before these tasks run: a child that dies was at the last of them. */
  | { type: 'STARTED'; indices: number[] }
  | { type: 'RESULT'; index: number; attempt: number; output: unknown; durationMs: number }
  /** `timedOut`: the task's own work may go on in the background, and slow down what runs after it. */
  | { type: 'TASK_FAILED'; index: number; attempt: number; message: string; timedOut: boolean }
  | { type: 'LOG'; index: number; text: string }
  | { type: 'SEND'; from: number; to: number; body: unknown }
  | { type: 'BARRIER'; index: number; name: string; size: number }

/** The line, with its end. Throws TransferError INVALID_REQUEST where it is longer than a child takes. */
export function encodeToChild(message: ToChild): string {
  const json = JSON.stringify(message)
  // No character takes more than 3 bytes.
  if (json.length * 3 > maxLineBytes && Buffer.byteLength(json) > maxLineBytes)
    throw new TransferError(
      'INVALID_REQUEST',
      `A child takes messages of at most ${maxLineBytes} bytes, and this ${message.type} is longer.`,
      {
        retryable: false,
      },
    )
  return `${json}\n`
}

type Members = Record<string, unknown>
type Parsers = { [Type in FromChild['type']]: (members: Members) => Omit<Extract<FromChild, { type: Type }>, 'type'> }

const maxTasks = 100_000
const maxLibraries = 2_000
const maxMessageLength = 4_096
const maxDepth = 200

const parsers: Parsers = {
  HELLO: (members) => ({
    runtime: runtime(members['runtime']),
    version: text(members, 'version', 100),
    libraries: libraries(members['libraries']),
    protocol: whole(members, 'protocol', 1, 1_000),
  }),
  READY: (members) => ({ libraries: libraries(members['libraries']), warmUpMs: duration(members, 'warmUpMs') }),
  WARM_UP_FAILED: (members) => ({ message: cut(members, 'message', maxMessageLength) }),
  IDENTIFIED: () => ({}),
  PROGRAM_READY: () => ({}),
  PROGRAM_FAILED: (members) => ({ message: cut(members, 'message', maxMessageLength) }),
  STARTED: (members) => {
    const { indices } = members
    if (!Array.isArray(indices) || indices.length === 0 || indices.length > maxTasks) throw malformed('`indices` is not a list of tasks')
    return { indices: indices.map((index: unknown) => whole({ index }, 'index', 0, maxTasks - 1)) }
  },
  RESULT: (members) => ({
    ...attempted(members),
    output: value(members, 'output'),
    durationMs: duration(members, 'durationMs'),
  }),
  TASK_FAILED: (members) => ({
    ...attempted(members),
    message: cut(members, 'message', maxMessageLength),
    timedOut: members['timedOut'] === true,
  }),
  LOG: (members) => ({ index: task(members, 'index'), text: cut(members, 'text', maxLogLength) }),
  SEND: (members) => ({ from: task(members, 'from'), to: task(members, 'to'), body: value(members, 'body') }),
  BARRIER: (members) => ({
    index: task(members, 'index'),
    name: text(members, 'name', 200),
    size: whole(members, 'size', 1, maxTasks),
  }),
}

/** Reads one line, without its end. Unknown members are dropped. Throws TransferError PROTOCOL. */
export function parseFromChild(line: string): FromChild {
  if (line.length > maxLineBytes) throw malformed(`a line of ${line.length} characters`)
  if (isTooDeep(line)) throw malformed(`more than ${maxDepth} values within each other`)
  let parsed: unknown
  try {
    parsed = JSON.parse(line)
  } catch {
    throw malformed('what is not JSON')
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw malformed('what is not an object')
  const members: Members = { ...parsed }
  const { type } = members
  if (typeof type !== 'string' || !isType(type)) throw malformed('a message of no known type')
  if ((type === 'RESULT' || type === 'SEND') && line.length > maxValueBytes + 1_024)
    throw malformed(`a ${type} of ${line.length} characters`)
  return { type, ...parsers[type](members) } as FromChild
}

function isType(type: string): type is FromChild['type'] {
  return Object.hasOwn(parsers, type)
}

/** What is nested more deeply can be read, but not written again: that takes a call for each level. */
function isTooDeep(line: string): boolean {
  let depth = 0
  for (let at = 0; at < line.length; at++) {
    const code = line.charCodeAt(at)
    if (code === 0x22) {
      at += 1
      while (at < line.length && line.charCodeAt(at) !== 0x22) at += line.charCodeAt(at) === 0x5c ? 2 : 1
    } else if (code === 0x5b || code === 0x7b) {
      depth += 1
      if (depth > maxDepth) return true
    } else if (code === 0x5d || code === 0x7d) depth -= 1
  }
  return false
}

function attempted(members: Members): { index: number; attempt: number } {
  return { index: task(members, 'index'), attempt: whole(members, 'attempt', 1, 1_000_000) }
}

function task(members: Members, name: string): number {
  return whole(members, name, 0, maxTasks - 1)
}

function whole(members: Members, name: string, least: number, most: number): number {
  const number = members[name]
  if (typeof number !== 'number' || !Number.isInteger(number) || number < least || number > most)
    throw malformed(`\`${name}\` that is not a whole number from ${least} to ${most}`)
  return number
}

function duration(members: Members, name: string): number {
  const number = members[name]
  if (typeof number !== 'number' || !Number.isFinite(number) || number < 0) throw malformed(`\`${name}\` that is no duration`)
  return number
}

function text(members: Members, name: string, longest: number): string {
  const given = members[name]
  if (typeof given !== 'string' || given === '' || given.length > longest)
    throw malformed(`\`${name}\` that is not a text of up to ${longest} characters`)
  return given
}

/** What is only shown to people may be longer, and is cut. */
function cut(members: Members, name: string, longest: number): string {
  const given = members[name]
  if (typeof given !== 'string') throw malformed(`\`${name}\` that is not a text`)
  return given.length > longest ? `${given.slice(0, longest)}…` : given
}

function value(members: Members, name: string): unknown {
  if (!Object.hasOwn(members, name)) throw malformed(`no \`${name}\``)
  return members[name]
}

function libraries(given: unknown): Record<string, string> {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw malformed('`libraries` that are not names with versions')
  const entries = Object.entries(given)
  if (entries.length > maxLibraries) throw malformed(`${entries.length} libraries`)
  return Object.fromEntries(
    entries.map(([name, version]) => {
      if (name.length > 200 || typeof version !== 'string' || version.length > 100)
        throw malformed('`libraries` that are not names with versions')
      return [name, version]
    }),
  )
}

function runtime(given: unknown): 'node' | 'python' {
  if (given === 'node' || given === 'python') return given
  throw malformed('`runtime` that is neither node nor python')
}

function malformed(what: string): TransferError {
  return new TransferError('PROTOCOL', `The child VM sent what can't be: ${what}. It is given up, and its tasks go to another one.`, {
    retryable: true,
  })
}
