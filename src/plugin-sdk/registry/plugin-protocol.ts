/**
 * What the control plane and a plugin's process say to each other, over Node's IPC channel with structured clone. The control plane numbers its
 * requests; each is settled once. Loading comes first, then connect, then calls. Types only: plugin-process.ts and plugin-child.ts check what comes.
 */
import { ProviderError, type ProviderErrorCode, providerErrorCodes } from '../errors.ts'

export type ToPlugin =
  | { kind: 'load'; id: number; url: string }
  | { kind: 'validate'; id: number; options: unknown }
  | { kind: 'connect'; id: number; options: unknown; known: boolean }
  | { kind: 'call'; id: number; path: string[]; args: unknown[] }
  /** Aborts the signal of that request, which is settled all the same. */
  | { kind: 'cancel'; id: number }
  /** Answered at once by a process that is not stuck. */
  | { kind: 'ping' }
  /** Fault injection for the conformance suite: the process ends in place of answering the next call of that path. */
  | { kind: 'dieBeforeAnswering'; path: string }

export type FromPlugin =
  | { kind: 'pong' }
  | { kind: 'settled'; id: number; value: unknown }
  | { kind: 'failed'; id: number; error: ErrorRecord }
  | { kind: 'log'; level: 'debug' | 'info' | 'warn' | 'error'; message: string; fields: Record<string, unknown> }

export interface PluginDeclaration {
  id: string
  apiVersion: { major: number; minor: number }
  optionsJsonSchema: Record<string, unknown> | null
}

/** A connection's members by path: functions to call, and plain values. */
export interface ConnectionShape {
  functions: string[][]
  values: { path: string[]; value: unknown }[]
}

export interface ErrorRecord {
  code: ProviderErrorCode
  message: string
  retryable: boolean
  remedy: string
  path: string[]
  vmOwner: 'source' | 'destination' | 'unknown' | undefined
  stack: string | undefined
}

/**
 * Any thrown value as data. A ProviderError of another copy of the SDK counts too. Everything else is the plugin's fault: INTERNAL, or CANCELLED
 * when the request had been cancelled and what was thrown is the abort.
 */
export function errorRecord(thrown: unknown, cancelled: boolean): ErrorRecord {
  const error = thrown instanceof Error ? thrown : new Error(asText(thrown))
  const { code, retryable, remedy, path, vmOwner } = error as { [Member in keyof ProviderError]?: unknown }
  const stack = typeof error.stack === 'string' ? error.stack : undefined
  if (error.name === 'ProviderError' && providerErrorCodes.some((known) => known === code))
    return {
      code: code as ProviderErrorCode,
      message: asText(error.message),
      retryable: retryable === true,
      remedy: asText(remedy),
      path: Array.isArray(path) ? path.map(asText) : [],
      vmOwner: vmOwners.find((known) => known === vmOwner),
      stack,
    }
  if (cancelled && (error.name === 'AbortError' || error.name === 'TimeoutError')) return { ...cancelledRecord, stack }
  return {
    code: 'INTERNAL',
    message: `The plugin failed in a way that its author did not foresee: ${asText(error.message)}`,
    retryable: false,
    remedy: "Report this to the plugin's author, with the log.",
    path: [],
    vmOwner: undefined,
    stack,
  }
}

const vmOwners = ['source', 'destination', 'unknown'] as const

/** Of anything at all: some values refuse to be made a text. */
function asText(value: unknown): string {
  try {
    return String(value)
  } catch {
    return 'something that is no text'
  }
}

export const cancelledRecord: ErrorRecord = {
  code: 'CANCELLED',
  message: 'The call to the plugin was cancelled.',
  retryable: true,
  remedy: 'Send it again when it is wanted.',
  path: [],
  vmOwner: undefined,
  stack: undefined,
}

export function errorFromRecord(record: ErrorRecord): ProviderError {
  const error = new ProviderError(record.code, record.message, {
    retryable: record.retryable,
    remedy: record.remedy,
    path: record.path,
    ...(record.vmOwner && { vmOwner: record.vmOwner }),
  })
  if (record.stack !== undefined) error.stack = record.stack
  return error
}
