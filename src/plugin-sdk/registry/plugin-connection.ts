/**
 * A connection that outlives its plugin's process. A crash costs the calls under way one PLUGIN_CRASHED each; the next call starts the process again and
 * connects with the same options. A process that keeps crashing is started later and later.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { PluginLog, ProviderConnection } from '../contract.ts'
import { ProviderError } from '../errors.ts'
import type { PluginChild } from './plugin-child.ts'
import type { ConnectionShape } from './plugin-protocol.ts'

export interface PluginConnection {
  /** What the provider can't do is absent, as in the plugin's own object. */
  connection: ProviderConnection
  /** Paths of its members, such as `virtualMachines.create`. */
  capabilities: string[]
  /** Ends the plugin's process as a crash would, but without back-off; for tests. */
  crash: {
    now(): Promise<void>
    /** In place of answering the next call of that path, once it is done. */
    beforeAnswering(path: string): Promise<void>
  }
}

export interface CallLimits {
  connectTimeoutMs: number
  /** By path, such as `destination.instantiate`. */
  callTimeoutMs(path: string): number
  /** How long a cancelled or overdue call may take to stop before the process is killed. */
  graceMs: number
  /** How long the process may be stuck (its event loop, not its work) before it is killed. */
  unresponsiveMs: number
}

const minuteMs = 60_000
/** Of all that a guest wrote to an overlay. It starts over each time that it is cut short. */
const mergeMs = 6 * 60 * minuteMs
const longCalls: Record<string, number> = {
  'virtualMachines.create': 15 * minuteMs,
  'virtualMachines.stop': 5 * minuteMs,
  'destination.instantiate': 10 * minuteMs,
  'destination.discardOverlay': mergeMs,
  'destination.flattenOverlay': mergeMs,
  'destination.testBoot.remove': mergeMs,
  'fork.bootParent': 10 * minuteMs,
  'fork.saveParent': 10 * minuteMs,
  'migrationAgent.install': 12 * minuteMs,
  'migrationAgent.uninstall': 4 * minuteMs,
}
export const usualLimits: CallLimits = {
  connectTimeoutMs: minuteMs,
  callTimeoutMs: (path) => longCalls[path] ?? 3 * minuteMs,
  graceMs: 10_000,
  unresponsiveMs: 60_000,
}

const crashWindowMs = minuteMs
const longestBackOffMs = 15_000

/** @param start a new process with the plugin loaded. */
export async function openPluginConnection(
  start: (signal?: AbortSignal) => Promise<PluginChild>,
  options: unknown,
  context: { limits: CallLimits; known: boolean; signal?: AbortSignal | undefined; log: PluginLog },
): Promise<PluginConnection> {
  const { limits, log } = context
  let current: Promise<PluginChild> | undefined
  let crashes: number[] = []
  let closed = false
  let crashOnPurpose = false
  let shape: ConnectionShape | undefined

  const startAndConnect = async (signal?: AbortSignal): Promise<PluginChild> => {
    crashes = crashes.filter((at) => at > performance.now() - crashWindowMs)
    if (crashes.length > 1) await delay(Math.min(longestBackOffMs, 250 * 2 ** (crashes.length - 2)))
    const child = await start(signal)
    let refused = false
    child.onEnd(() => {
      current = undefined
      const onPurpose = crashOnPurpose
      crashOnPurpose = false
      if (closed || onPurpose || refused) return
      crashes.push(performance.now())
      log('error', "The plugin's process ended; the next call starts it again.", { crashesInTheLastMinute: crashes.length })
    })
    try {
      const answered = (await child.request(
        { kind: 'connect', options, known: context.known || shape !== undefined },
        { timeoutMs: limits.connectTimeoutMs, graceMs: limits.graceMs, signal },
      )) as ConnectionShape
      shape ??= answered
      return child
    } catch (error) {
      // Ended by us: a cloud that can't be reached is no crash of its plugin.
      refused = true
      await child.kill()
      throw error
    }
  }
  const connected = (signal?: AbortSignal): Promise<PluginChild> => {
    if (closed) return Promise.reject(closedError())
    return (current ??= startAndConnect(signal).catch((error: unknown) => {
      current = undefined
      throw error
    }))
  }
  const call = async (path: string[], args: unknown[]): Promise<unknown> => {
    const child = await connected()
    const { sendable, signal } = withoutSignal(args)
    return await child.request(
      { kind: 'call', path, args: sendable },
      { timeoutMs: limits.callTimeoutMs(path.join('.')), graceMs: limits.graceMs, signal },
    )
  }
  const close = async (): Promise<void> => {
    if (closed) return
    const child = await current?.catch(() => undefined)
    closed = true
    if (!child) return
    try {
      await child.request({ kind: 'call', path: ['close'], args: [] }, { timeoutMs: limits.graceMs, graceMs: 1_000 })
    } catch (error) {
      log('warn', 'The plugin did not close in order, and its process was ended.', { error: String(error) })
    }
    await child.kill()
  }

  await connected(context.signal)
  const { functions, values } = shape ?? { functions: [], values: [] }
  const object: Record<string, unknown> = {}
  for (const path of functions) place(object, path, (...args: unknown[]) => call(path, args))
  for (const { path, value } of values) place(object, path, value)
  return {
    connection: { ...object, close } as unknown as ProviderConnection,
    capabilities: [...functions.filter(([name]) => name !== 'close'), ...values.map(({ path }) => path)]
      .map((path) => path.join('.'))
      .toSorted(),
    crash: {
      now: async () => {
        const child = await connected()
        crashOnPurpose = true
        await child.kill()
      },
      beforeAnswering: async (path) => {
        const child = await connected()
        crashOnPurpose = true
        child.dieBeforeAnswering(path)
      },
    },
  }
}

function place(root: Record<string, unknown>, path: string[], value: unknown): void {
  const [name = '', ...rest] = path
  if (rest.length === 0) root[name] = value
  else place((root[name] ??= {}) as Record<string, unknown>, rest, value)
}

/** A signal doesn't cross: it becomes a message. */
function withoutSignal(args: unknown[]): { sendable: unknown[]; signal: AbortSignal | undefined } {
  const [first, ...rest] = args
  if (typeof first !== 'object' || first === null || !('signal' in first)) return { sendable: args, signal: undefined }
  const { signal, ...sendable } = first
  return { sendable: [sendable, ...rest], signal: signal instanceof AbortSignal ? signal : undefined }
}

function closedError(): ProviderError {
  return new ProviderError('INTERNAL', 'The connection to the cloud was closed.', { retryable: false, remedy: 'Connect the cloud again.' })
}
