/** Refuses what a job may not be, with its place in the input. A program's syntax is checked in the guest. */
import { PortolanError } from './errors.ts'
import { jobLimits } from './job-limits.ts'
import type { JobProgram, JobRequest } from './job.ts'
import { nestsWithin } from './nests-within.ts'

export interface NewTask {
  /** Any JSON value. */
  input: unknown
  /** Places of other tasks in the list; one direction is enough. */
  interactsWith: readonly number[]
}

/** What is stored and sent: the input as JSON text. */
export interface CheckedTask {
  index: number
  inputJson: string
  interactsWith: number[]
}

/** @throws PortolanError INVALID_INPUT */
export function checkedTasks(tasks: readonly NewTask[]): CheckedTask[] {
  if (tasks.length < 1 || tasks.length > jobLimits.tasks)
    throw invalidJob(`must be 1 to ${jobLimits.tasks} tasks, and were ${tasks.length}`, ['tasks'])
  let inputsBytes = 0
  let interactions = 0
  return tasks.map(({ input, interactsWith }, index) => {
    const path = ['tasks', `${index}`]
    if (!nestsWithin(input, jobLimits.inputDepth)) throw invalidJob(`nests more than ${jobLimits.inputDepth} levels`, [...path, 'input'])
    const inputJson = JSON.stringify(input ?? null)
    const bytes = Buffer.byteLength(inputJson)
    if (bytes > jobLimits.inputBytes)
      throw invalidJob(`has ${bytes} bytes as JSON, and ${jobLimits.inputBytes} are allowed`, [...path, 'input'])
    inputsBytes += bytes
    if (inputsBytes > jobLimits.inputsBytes)
      throw invalidJob(`have more than ${jobLimits.inputsBytes} bytes of inputs in all, as JSON`, ['tasks'])
    for (const [place, other] of interactsWith.entries())
      if (!Number.isInteger(other) || other < 0 || other >= tasks.length)
        throw invalidJob(`is ${other}, and there is no such task: they are numbered from 0 to ${tasks.length - 1}`, [
          ...path,
          'interactsWith',
          `${place}`,
        ])
    interactions += interactsWith.length
    if (interactions > jobLimits.interactions) throw invalidJob(`have more than ${jobLimits.interactions} interactions in all`, ['tasks'])
    return { index, inputJson, interactsWith: [...new Set(interactsWith)] }
  })
}

/** @throws PortolanError INVALID_INPUT for tasks that interact and have, together, more input than a child takes at once. */
export function requireComponentsFit(tasks: readonly CheckedTask[], components: readonly (readonly number[])[]): void {
  for (const members of components) {
    const bytes = members.reduce((sum, index) => sum + messageBytes(tasks[index]!), 0)
    if (bytes > jobLimits.componentBytes)
      throw invalidJob(
        `interacts, directly or through others, with ${members.length - 1} tasks, which together take about ${bytes} bytes, and ${jobLimits.componentBytes} are allowed for tasks that interact`,
        ['tasks', `${members[0]}`, 'interactsWith'],
      )
  }
}

/** `{"index":99999,"attempt":99,"input":…,"interactsWith":[…]},` */
function messageBytes({ inputJson, interactsWith }: CheckedTask): number {
  return Buffer.byteLength(inputJson) + 62 + 6 * interactsWith.length
}

/** @throws PortolanError INVALID_INPUT */
export function requireProgram({ source, shared }: JobProgram): void {
  if (source.trim() === '') throw invalidJob('must be source text, and is empty', ['program'])
  const bytes = jsonBytes(source)
  if (bytes > jobLimits.programBytes)
    throw invalidJob(`has ${bytes} bytes as a JSON string, and ${jobLimits.programBytes} are allowed`, ['program'])
  const sharedBytes = jsonBytes(shared)
  if (sharedBytes > jobLimits.sharedBytes)
    throw invalidJob(`has ${sharedBytes} bytes as JSON, and ${jobLimits.sharedBytes} are allowed`, ['shared'])
}

/** Read-only inputs by name. @throws PortolanError INVALID_INPUT for too many, and a name that is none or comes twice. */
export function checkedShared(entries: readonly { name: string; value: string }[]): Record<string, string> {
  if (entries.length > jobLimits.sharedInputs)
    throw invalidJob(`must be ${jobLimits.sharedInputs} at most, and were ${entries.length}`, ['shared'])
  const shared = new Map<string, string>()
  for (const [place, { name, value }] of entries.entries()) {
    const path = ['shared', `${place}`, 'name']
    if (!/^[A-Za-z][\w.-]{0,99}$/.test(name))
      throw invalidJob('must begin with a letter, and have 1 to 100 letters, digits, ".", "_" or "-"', path)
    if (shared.has(name)) throw invalidJob(`is ${JSON.stringify(name)} a second time`, path)
    shared.set(name, value)
  }
  return Object.fromEntries(shared)
}

/** @throws PortolanError INVALID_INPUT */
export function requireRequest({ requirements, privileges, children, retries, taskTimeoutMs, cloudIds }: JobRequest): void {
  if (children !== null) requireWithin(children, [1, jobLimits.children], ['children'])
  requireWithin(retries, [0, jobLimits.retries], ['retries'])
  requireWithin(taskTimeoutMs, [1, jobLimits.taskTimeoutMs], ['taskTimeoutMs'])
  const { runtimeVersion, libraries } = requirements
  if (runtimeVersion !== null) requireVersion(runtimeVersion, ['requirements', 'runtimeVersion'])
  if (libraries.length > jobLimits.libraries)
    throw invalidJob(`must be ${jobLimits.libraries} at most, and were ${libraries.length}`, ['requirements', 'libraries'])
  for (const [place, { name, version }] of libraries.entries()) {
    const path = ['requirements', 'libraries', `${place}`]
    if (!/^[@\w][\w@./+-]{0,99}$/.test(name))
      throw invalidJob('must have 1 to 100 letters, digits, ".", "_", "-", "+", "/" or "@"', [...path, 'name'])
    if (version !== null) requireVersion(version, [...path, 'version'])
  }
  const { cpuShare, memoryBytes, diskBytes, maxLifetimeMs } = privileges
  requireWithin(cpuShare, [0.01, 64], ['privileges', 'cpuShare'])
  if (memoryBytes !== null) requireWithin(memoryBytes, [33_554_432, 2 ** 40], ['privileges', 'memoryBytes'])
  requireWithin(diskBytes, [0, 2 ** 40], ['privileges', 'diskBytes'])
  requireWithin(maxLifetimeMs, [1_000, jobLimits.lifetimeMs], ['privileges', 'maxLifetimeMs'])
  if (cloudIds === null) return
  requireWithin(cloudIds.length, [1, jobLimits.clouds], ['cloudIds'], 'be 1 to 20 clouds')
}

function requireVersion(version: string, path: readonly string[]): void {
  if (!/^\d[\w.+~-]{0,49}$/.test(version)) throw invalidJob('must be a version or its first numbers, such as 18 or 3.11', path)
}

export function requireWithin(value: number, [least, most]: readonly [number, number], path: readonly string[], rule?: string): void {
  // NaN is within nothing.
  if (value >= least && value <= most) return
  throw invalidJob(rule ? `must ${rule}, and were ${value}` : `must be from ${least} to ${most}, and was ${value}`, path)
}

function jsonBytes(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value))
}

/** `path` without its `input`. */
export function invalidJob(rule: string, path: readonly string[]): PortolanError {
  const whole = ['input', ...path]
  return new PortolanError('INVALID_INPUT', `${whole.join('.')} ${rule}. Nothing was changed.`, {
    retryable: false,
    remedy: 'Correct it and send the call again.',
    path: whole,
  })
}
