import { randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import qemu from '../../../../plugins/qemu/index.ts'
import { qemuOptions } from '../../../../plugins/qemu/options.ts'
import type { NewVirtualMachine, ProviderConnection } from '../../../../src/plugin-sdk/index.ts'

export interface TestCloud {
  stateDirectory: string
  connection: ProviderConnection
  machineFile(vmId: string, name: string): string
  /** Ends all VMs and removes everything. */
  close(): Promise<void>
}

/** A cloud of the qemu plugin in a directory of its own. */
export async function openCloud(options: Record<string, unknown> = {}): Promise<TestCloud> {
  const stateDirectory = await mkdtemp(join(tmpdir(), 'portolan-qemu-'))
  const connection = await connect(stateDirectory, options)
  return {
    stateDirectory,
    connection,
    machineFile: (vmId, name) => join(stateDirectory, 'machines', vmId, name),
    async close() {
      const { virtualMachines } = await connection.discoverTopology({})
      for (const { id } of virtualMachines) await connection.destination.delete({ operationId: randomUUID(), vmId: id })
      await rm(stateDirectory, { recursive: true, force: true })
    },
  }
}

/** Another connection to the same state, as another plugin process has it. */
export async function connect(stateDirectory: string, options: Record<string, unknown> = {}, known = false): Promise<ProviderConnection> {
  return qemu.connect(qemuOptions.parse({ stateDirectory, accelerator: 'tcg', ...options }), {
    known,
    signal: new AbortController().signal,
    log: () => undefined,
  })
}

export const mebibyte = 1024 * 1024

export function smallMachine(changes: Partial<NewVirtualMachine> = {}): NewVirtualMachine {
  return {
    name: 'web',
    uniqueId: randomUUID(),
    cpuCount: 1,
    memoryBytes: 32 * mebibyte,
    firmware: 'BIOS',
    disks: [{ index: 0, sizeBytes: 4 * mebibyte }],
    nics: [{ index: 0, mac: '52:54:00:12:34:56', networkId: 'user-mode' }],
    ...changes,
  }
}

/** Polls until the answer is true; the test's own time-out ends it otherwise. */
export async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20))
}

export async function fileText(path: string): Promise<string> {
  return readFile(path, 'latin1').catch(() => '')
}
