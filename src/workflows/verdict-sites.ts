/** Asks sites what they hold, changing nothing. A site that doesn't answer in time costs its time-out, and keeps no other one waiting. */
import { isFenceUpToAttempt } from '../domain/fence-id.ts'
import { recordKeyPrefix } from '../domain/migration-record.ts'
import type { CopyFence, CopyPower } from '../domain/verdict-actions.ts'
import { ProviderError, type ProviderConnection, type SiteRecord, type VirtualMachineDescription } from '../plugin-sdk/index.ts'
import type { CloudConnections } from './cloud-connections.ts'
import { failureOf } from './failure.ts'

export type Read<T> = { value: T; problem: null } | { value: null; problem: string }

export interface SiteReading {
  cloudId: string
  readAt: Date
  /** Null where it could not even be connected to. */
  connection: ProviderConnection | null
  records: Read<SiteRecord[]>
  machines: Read<VirtualMachineDescription[]>
}

export interface FenceReading {
  fence: CopyFence
  /** Null where the provider can't be asked for it: what the site said of the machine stands. */
  power: CopyPower | null
  readAt: Date
  message: string
}

const atOnce = 8

/** All clouds at once, at most `timeoutMs` for each. Rejects only when `signal` is aborted. */
export async function readSites(
  connections: Pick<CloudConnections, 'connection'>,
  cloudIds: readonly string[],
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
): Promise<Map<string, SiteReading>> {
  const readings = await inParallel(cloudIds, async (cloudId): Promise<SiteReading> => {
    const readAt = new Date()
    const opened = await attempt(signal, timeoutMs, (own) => connections.connection(cloudId, own))
    if (!opened.value) return { cloudId, readAt, connection: null, records: failed(opened), machines: failed(opened) }
    const connection = opened.value
    const [records, machines] = await Promise.all([
      attempt(signal, timeoutMs, (own) => connection.records.list({ keyPrefix: recordKeyPrefix, signal: own })),
      attempt(signal, timeoutMs, async (own) => (await connection.discoverTopology({ signal: own })).virtualMachines),
    ])
    return { cloudId, readAt, connection, records, machines }
  })
  signal.throwIfAborted()
  return new Map(readings.map((reading) => [reading.cloudId, reading]))
}

/** Whether the machine is fenced, and whose the fence is: that of the attempt, or one that an earlier attempt of the same migration left, counts as ours. */
export async function readFence(
  connection: ProviderConnection,
  vmId: string,
  of: { id: string; attempt: number },
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
): Promise<FenceReading> {
  const readAt = new Date()
  const { fencing } = connection
  if (!fencing) return { fence: 'UNSUPPORTED', power: null, readAt, message: "Its provider can't fence." }
  const answer = await attempt(signal, timeoutMs, async (own) => {
    try {
      return await fencing.confirm({ vmId, signal: own })
    } catch (error) {
      if (error instanceof ProviderError && error.code === 'NOT_FOUND') return null
      throw error
    }
  })
  signal.throwIfAborted()
  if (answer.problem !== null) return { fence: 'UNKNOWN', power: 'UNKNOWN', readAt, message: answer.problem }
  const state = answer.value
  if (!state) return { fence: 'NONE', power: 'ABSENT', readAt, message: 'The provider answers that there is no such machine.' }
  const { power } = state
  if (state.fenceId === null || !state.armed) return { fence: 'NONE', power, readAt, message: `No fence is armed; its power is ${power}.` }
  if (!isFenceUpToAttempt(state.fenceId, of))
    return {
      fence: 'FOREIGN',
      power,
      readAt,
      message: `The fence ${state.fenceId} of another migration, or of a later attempt, is armed; its power is ${power}.`,
    }
  return state.fenced
    ? { fence: 'FENCED', power, readAt, message: `This migration's fence is in force; its power is ${power}.` }
    : { fence: 'ARMED', power, readAt, message: `This migration's fence is armed, so nothing starts it anew; its power is ${power}.` }
}

/** At most `atOnce` of them at a time, answers in the order of the items. */
export async function inParallel<Item, Answer>(items: readonly Item[], work: (item: Item) => Promise<Answer>): Promise<Answer[]> {
  const answers: Answer[] = []
  let next = 0
  const worker = async () => {
    for (let index = next++; index < items.length; index = next++) answers[index] = await work(items[index]!)
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker))
  return answers
}

/** A provider may not heed the signal, so the time-out doesn't wait for it. */
async function attempt<T>(signal: AbortSignal, timeoutMs: number, work: (signal: AbortSignal) => Promise<T>): Promise<Read<T>> {
  const own = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
  const aborted = new Promise<never>((_, reject) =>
    own.addEventListener('abort', () => reject(new Error(`There was no answer within ${timeoutMs / 1000} s.`)), { once: true }),
  )
  aborted.catch(() => {})
  try {
    return { value: await Promise.race([work(own), aborted]), problem: null }
  } catch (error) {
    return { value: null, problem: failureOf(error).message }
  }
}

function failed(read: Read<unknown>): Read<never> {
  return { value: null, problem: read.problem ?? '' }
}
