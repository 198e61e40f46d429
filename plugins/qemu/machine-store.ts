/** Reads and changes VM directories. Every change of one VM runs under its lock, and is recorded by its operation id once it is done. */
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Operation, ProviderError } from '../../src/plugin-sdk/index.ts'
import { asRoomAllows, syncPath, writeDurably } from './durable-file.ts'
import { withLock } from './machine-lock.ts'
import type { Machine, MachineDisk } from './machine.ts'
import { atSite, machinesOf, requireStateDirectory } from './state-directory.ts'
import { stateStorageId } from './storages.ts'

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** One VM under its lock. `machine` is what was last saved. */
export interface MachineChange {
  readonly machine: Machine
  readonly directory: string
  save(changes: Partial<Machine>): Promise<void>
}

export type MachineStore = Awaited<ReturnType<typeof openMachineStore>>

/** `removeElsewhere` removes what a VM has outside of its directory. */
export async function openMachineStore(stateDirectory: string, removeElsewhere: (vmId: string) => Promise<void>) {
  const machines = machinesOf(stateDirectory)
  const locks = join(stateDirectory, 'locks')
  await mkdir(machines, { recursive: true, mode: 0o700 })
  await mkdir(locks, { recursive: true, mode: 0o700 })
  await syncPath(stateDirectory)

  const directoryOf = (vmId: string) => join(machines, requireUuid(vmId))

  async function find(vmId: string): Promise<Machine | null> {
    const text = await readFile(join(directoryOf(vmId), 'vm.json'), 'utf8').catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error
      await requireStateDirectory(stateDirectory)
      return null
    })
    return text === null ? null : parseMachine(vmId, text)
  }

  async function read(vmId: string): Promise<Machine> {
    return (uuid.test(vmId) ? await find(vmId) : null) ?? missing(vmId)
  }

  async function list(): Promise<Machine[]> {
    const names = (await atSite(stateDirectory, () => readdir(machines))).filter((name) => uuid.test(name))
    const found = await Promise.all(names.map(find))
    return found.filter((machine) => machine !== null)
  }

  const lock = <Result>(vmId: string, signal: AbortSignal | undefined, work: () => Promise<Result>) =>
    atSite(stateDirectory, () => withLock(join(locks, requireUuid(vmId)), signal, work))

  /**
   * Runs `act` unless this operation is done already. When it throws, or the process dies, the operation stays undone and the repeated call
   * runs `act` again, which therefore looks at what is there before each of its steps.
   */
  async function change(
    method: string,
    operation: Operation & { vmId: string },
    act: (change: MachineChange) => Promise<void>,
  ): Promise<void> {
    await read(operation.vmId)
    await lock(operation.vmId, operation.signal, async () => changeHeld(method, operation.operationId, await read(operation.vmId), act))
  }

  async function changeHeld(
    method: string,
    operationId: string,
    found: Machine,
    act: (change: MachineChange) => Promise<void>,
  ): Promise<void> {
    if (isDone(found, operationId, method)) return
    const directory = directoryOf(found.vmId)
    let machine = found
    const save = async (changes: Partial<Machine>) => {
      machine = { ...machine, ...changes }
      await asRoomAllows(`what became of ${found.vmId}`, () => writeDurably(join(directory, 'vm.json'), JSON.stringify(machine, null, 2)))
    }
    const current = {
      get machine() {
        return machine
      },
      directory,
      save,
    }
    await act(current)
    await save({ operations: { ...machine.operations, [operationId]: method } })
  }

  /**
   * Makes the VM's directory, unless this operation made it already, and then runs `act` on it. The directory appears whole or not at all, since it
   * is filled by `prepare` under another name. `admit` throws when there is no room; no other VM is admitted meanwhile.
   * Throws CONFLICT when another operation made a VM with this id.
   */
  async function create(
    method: string,
    operation: Operation,
    machine: Machine,
    steps: { admit(): Promise<void>; prepare(directory: string): Promise<void>; act(change: MachineChange): Promise<void> },
  ): Promise<void> {
    await requireStateDirectory(stateDirectory)
    await lock(machine.vmId, operation.signal, async () => {
      const existing = await find(machine.vmId)
      if (existing && existing.createdBy !== operation.operationId) throw alreadyThere(existing)
      if (!existing)
        await withLock(join(locks, 'admission'), operation.signal, async () => {
          await steps.admit()
          await fill(machine, steps.prepare)
        })
      await changeHeld(method, operation.operationId, existing ?? machine, steps.act)
    })
  }

  async function fill(machine: Machine, prepare: (directory: string) => Promise<void>): Promise<void> {
    const partial = join(machines, `.creating-${machine.vmId}`)
    await rm(partial, { recursive: true, force: true })
    await mkdir(partial, { mode: 0o700 })
    try {
      await prepare(partial)
      await writeDurably(join(partial, 'vm.json'), JSON.stringify(machine, null, 2))
      await rename(partial, directoryOf(machine.vmId))
    } catch (error) {
      await removeElsewhere(machine.vmId)
      await rm(partial, { recursive: true, force: true })
      throw error
    }
    await syncPath(machines)
  }

  /** Also finishes removals that were interrupted. The VM's process is known gone when this is called. */
  async function remove(vmId: string): Promise<void> {
    const doomed = join(machines, `.removing-${requireUuid(vmId)}`)
    await rm(join(machines, `.creating-${vmId}`), { recursive: true, force: true })
    await rm(doomed, { recursive: true, force: true })
    await rename(directoryOf(vmId), doomed).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
    })
    await syncPath(machines)
    await removeElsewhere(vmId)
    await rm(doomed, { recursive: true, force: true })
  }

  /** Removes what calls left that were killed and never repeated. What somebody is working on stays. */
  async function sweep(): Promise<void> {
    for (const name of await readdir(machines)) {
      const vmId = /^\.(?:creating|removing)-(.*)$/.exec(name)?.[1]
      if (vmId === undefined || !uuid.test(vmId)) continue
      const removal = async () => {
        if (!(await find(vmId))) await removeElsewhere(vmId)
        await rm(join(machines, name), { recursive: true, force: true })
      }
      await withLock(join(locks, vmId), undefined, removal, 0).catch((error: unknown) => {
        if (!(error instanceof ProviderError && error.code === 'TIMED_OUT')) throw error
      })
    }
  }
  await sweep()

  return { isVmId: (vmId: string) => uuid.test(vmId), directoryOf, find, read, list, lock, change, create, remove }
}

/** Throws CONFLICT when the id was used for something else. */
function isDone(machine: Machine, operationId: string, method: string): boolean {
  const done = Object.hasOwn(machine.operations, operationId) ? machine.operations[operationId] : undefined
  if (done === undefined) return false
  if (done === method) return true
  throw new ProviderError(
    'CONFLICT',
    `The operation ${JSON.stringify(operationId)} was ${done} on this virtual machine and can't be ${method} now.`,
    {
      retryable: false,
      remedy: 'Give every call an operation id of its own.',
      path: ['operationId'],
    },
  )
}

/** A UUID in lower case is safe as a file name; everything else is refused. */
function requireUuid(vmId: string): string {
  if (uuid.test(vmId)) return vmId
  throw new ProviderError(
    'NOT_FOUND',
    `There is no virtual machine with the id ${JSON.stringify(vmId.slice(0, 80))}: ids here are UUIDs in lower case.`,
    {
      retryable: false,
      remedy: 'Take the id from the topology.',
      path: ['vmId'],
    },
  )
}

function alreadyThere({ vmId }: Machine): ProviderError {
  return new ProviderError('CONFLICT', `This cloud already has a virtual machine with the unique id ${vmId}, made by another call.`, {
    retryable: false,
    remedy: 'Delete that one first, after making sure that it is not the live copy. Nothing was changed.',
    path: ['virtualMachine', 'uniqueId'],
  })
}

function missing(vmId: string): never {
  throw new ProviderError('NOT_FOUND', `There is no virtual machine with the id ${JSON.stringify(vmId.slice(0, 80))} at this cloud.`, {
    retryable: false,
    remedy: 'Refresh the topology and take the id from there.',
    path: ['vmId'],
  })
}

function parseMachine(vmId: string, text: string): Machine {
  // A VM that was made before there were fences, tests, storages and adoptions has none.
  const written = JSON.parse(text) as Machine
  const disks = written.disks.map((disk) => ({ ...withoutStorage, ...disk }))
  const machine: Machine = { ...withoutLater, ...written, disks }
  if (machine.version === 1 && machine.vmId === vmId) return machine
  throw new ProviderError('INTERNAL', `vm.json of ${vmId} was written by another version of this plugin, or for another virtual machine.`, {
    retryable: false,
    remedy: 'Use the plugin version that wrote it. Nothing was changed.',
  })
}

const withoutLater: Partial<Machine> = { fence: null, test: null, testOf: null, adopted: null }
const withoutStorage: Partial<MachineDisk> = { storageId: stateStorageId }
