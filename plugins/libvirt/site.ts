/** What every capability of one connection shares. */
import { ProviderError, type Operation, type PluginLog } from '../../src/plugin-sdk/index.ts'
import { libvirtClient, type LibvirtClient } from './client.ts'
import { ownDefinition } from './fenced-definition.ts'
import { readMetadata, writeMetadata, type MachineMetadata } from './machine-metadata.ts'
import type { LibvirtOptions } from './options.ts'
import { openVolumes, type Volumes } from './volumes.ts'
import type { XmlElement } from './xml.ts'

export interface Site {
  client: LibvirtClient
  options: LibvirtOptions
  log: PluginLog
  /** Of the first storage pool. */
  volumes: Volumes
  /** Of a pool by its name, the first by default. */
  pool(name?: string): Volumes
  /** The domain's configuration as the next start will use it, were it not fenced. Throws NOT_FOUND only when libvirtd says so. */
  domain(vmId: string, signal?: AbortSignal): Promise<XmlElement>
  /** The same of the VM as it runs; of a stopped one as configured. */
  runningDomain(vmId: string, signal?: AbortSignal): Promise<XmlElement>
  /** Runs one piece of work on a VM at a time. The signal ends the wait for the turn, with CANCELLED; work that has begun is waited for. */
  exclusively<Result>(vmId: string, signal: AbortSignal | undefined, work: () => Promise<Result>): Promise<Result>
  /** `admit` looks whether there is room, and `take` makes all that counts of a VM, so that the next one's look sees it: for one VM at a time. */
  admitting(signal: AbortSignal | undefined, admit: () => Promise<void>, take: () => Promise<void>): Promise<void>
  /** `work` at most once for an operation id, which is noted in the domain afterwards. `work` must be repeatable: a kill may come before the note. */
  once(operation: Operation & { vmId: string }, work: () => Promise<void>): Promise<void>
  /** Changes our metadata in the domain. */
  note(vmId: string, change: Partial<MachineMetadata>, signal?: AbortSignal): Promise<void>
}

export function openSite(options: LibvirtOptions, log: PluginLog): Site {
  const client = libvirtClient(options.uri)
  const queues = new Map<string, Promise<unknown>>()

  const dump = (vmId: string, flags: string[], signal?: AbortSignal) => {
    requireId(vmId)
    const asked = client.read(['dumpxml', '--domain', vmId, ...flags], { what: `look at the virtual machine ${vmId}`, signal })
    return asked.then(ownDefinition)
  }
  // With its passwords: a configuration that is written back must not lose them.
  const domain: Site['domain'] = (vmId, signal) => dump(vmId, ['--inactive', '--security-info'], signal)

  const exclusively: Site['exclusively'] = async (vmId, signal, work) => {
    const before = queues.get(vmId) ?? Promise.resolve()
    const turn = before.then(() => {
      if (signal?.aborted) throw cancelledInQueue()
      return work()
    })
    const settled = turn
      .catch(() => undefined)
      .finally(() => {
        if (queues.get(vmId) === settled) queues.delete(vmId)
      })
    queues.set(vmId, settled)
    await untilCancelled(before, signal)
    return turn
  }

  const note: Site['note'] = async (vmId, change, signal) => {
    await writeMetadata(client, vmId, { ...readMetadata(await domain(vmId, signal)), ...change }, signal)
  }

  return {
    client,
    options,
    log,
    volumes: openVolumes(client, options.storagePool),
    pool: (name = options.storagePool) => openVolumes(client, name),
    domain,
    runningDomain: (vmId, signal) => dump(vmId, [], signal),
    exclusively,
    admitting: (signal, admit, take) =>
      // No VM's id.
      exclusively('admission', signal, async () => {
        await admit()
        await take()
      }),
    note,
    once: ({ operationId, signal, vmId }, work) =>
      exclusively(vmId, signal, async () => {
        const done = readMetadata(await domain(vmId, signal)).operations
        if (done.includes(operationId)) return
        await work()
        const { operations } = readMetadata(await domain(vmId, signal))
        await note(vmId, { operations: [...operations, operationId] }, signal)
      }),
  }
}

/** Waits for what came before, which never rejects. */
function untilCancelled(before: Promise<unknown>, signal: AbortSignal | undefined): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const cancel = () => reject(cancelledInQueue())
    if (signal?.aborted) return cancel()
    signal?.addEventListener('abort', cancel, { once: true })
    void before.then(resolve).finally(() => signal?.removeEventListener('abort', cancel))
  })
}

function cancelledInQueue(): ProviderError {
  return new ProviderError('CANCELLED', 'Cancelled while waiting for another operation to end; this one was not begun.', {
    retryable: true,
    remedy: 'Send it again when it is wanted.',
  })
}

/** virsh takes names and numbers for domains too; ours are unique ids only, so that `1` or a name never hits another VM. */
function requireId(vmId: string): void {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(vmId)) return
  throw new ProviderError('NOT_FOUND', `${JSON.stringify(vmId.slice(0, 100))} is not a virtual machine's unique id, so none has it.`, {
    retryable: false,
    remedy: 'Use the id that the topology gives.',
    path: ['domain'],
  })
}
