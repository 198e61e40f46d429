/**
 * Clouds as plain state, with fences and records, for verdicts and reconciliations: each can be made unreachable or silent, and every call is noted. The one rule that must never be
 * broken, two live copies of a machine, is checked after every call that changes something.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDatabase, type Database } from '../../src/database/client.ts'
import { clouds } from '../../src/database/tables/cloud.ts'
import { PortolanError } from '../../src/domain/errors.ts'
import { recordKey, type RecordKind } from '../../src/domain/migration-record.ts'
import { agentToAgentCopy, ProviderError, type PowerState, type ProviderConnection, type SiteRecord } from '../../src/plugin-sdk/index.ts'

export interface StageMachine {
  uniqueId: string
  power: PowerState
  fence: { id: string; closed: boolean } | null
  /** Whether anything outside reaches it when it runs. */
  exposed: boolean
  /** The fence that giving it back restores. */
  adopted?: StageMachine['fence']
}

export interface StageCloud {
  machines: Record<string, StageMachine>
  records: Record<string, SiteRecord>
  /** DEAD answers UNREACHABLE, SILENT never answers; with RECORDS_DAMAGED only its records can't be read. */
  site: 'ALIVE' | 'DEAD' | 'SILENT' | 'RECORDS_DAMAGED'
  canFence: boolean
  calls: string[]
  connection: ProviderConnection
}

export interface VerdictStage {
  database: Database
  directory: string
  east: StageCloud
  west: StageCloud
  south: StageCloud
  violations: string[]
  connections: { connection(cloudId: string): Promise<ProviderConnection> }
  /** Runs before each changing call of a cloud; what it throws is the call's answer. */
  interrupt: { before: (call: string, signal?: AbortSignal) => void | Promise<void> }
  connect(...names: string[]): Promise<void>
  close(): Promise<void>
}

export const uniqueId = '6f0d3c1e-0000-4000-8000-000000000001'
export const migrationId = 'aaaaaaaa-0000-4000-8000-000000000001'
const reads = ['discoverTopology', 'describe', 'confirm', 'list']

export function isRead(call: string): boolean {
  return reads.includes(call.split('.')[1] ?? '')
}

export function machine(change: Partial<StageMachine> = {}): StageMachine {
  return { uniqueId, power: 'RUNNING', fence: null, exposed: true, ...change }
}

/** As the phases write them. */
export function putRecords(cloud: StageCloud, kinds: (RecordKind | 'COMMITTED' | 'ABANDONED')[], of: Record<string, unknown> = {}): void {
  for (const kind of kinds) {
    const isOutcome = kind === 'COMMITTED' || kind === 'ABANDONED'
    const content = { migrationId, attempt: 1, uniqueId, vmId: 'copy', sourceCloudId: 'lost', sourceVmId: 'vm-1', ...of }
    const key = recordKey({ migrationId: content.migrationId, attempt: content.attempt, kind: isOutcome ? 'outcome' : kind })
    const writtenAt = typeof of['writtenAt'] === 'string' ? of['writtenAt'] : '2026-11-22T12:00:00.000Z'
    cloud.records[key] = { key, writtenAt, content: { ...content, ...(isOutcome ? { decision: kind } : {}) } }
  }
}

export async function setVerdictStage(): Promise<VerdictStage> {
  const directory = await mkdtemp(join(tmpdir(), 'portolan-verdict-'))
  const database = await openDatabase({ dataDirectory: directory })
  const violations: string[] = []
  const interrupt: VerdictStage['interrupt'] = { before: () => {} }
  const all: Record<string, StageCloud> = {}
  for (const name of ['east', 'west', 'south']) all[name] = cloud(name)

  function cloud(name: string): StageCloud {
    const state: StageCloud = { machines: {}, records: {}, site: 'ALIVE', canFence: true, calls: [], connection: undefined as never }
    async function call<T>(method: string, apply: () => T, signal?: AbortSignal): Promise<T> {
      state.calls.push(`${name}.${method}`)
      if (!isRead(`${name}.${method}`)) await interrupt.before(`${name}.${method}`, signal)
      if (state.site === 'SILENT') await new Promise(() => {})
      if (state.site === 'DEAD')
        throw new ProviderError('UNREACHABLE', `The cloud ${name} does not answer.`, { retryable: true, remedy: 'Wait.' })
      const answer = apply()
      const live = Object.values(all).flatMap(({ machines }) =>
        Object.values(machines).filter((vm) => vm.power === 'RUNNING' && vm.exposed),
      )
      if (live.length > 1) violations.push(`two live copies after ${name}.${method}`)
      return structuredClone(answer)
    }
    const refused = (message: string) => new ProviderError('CONFLICT', message, { retryable: false, remedy: 'None.' })
    const find = (vmId: string) => {
      const vm = state.machines[vmId]
      if (!vm) throw new ProviderError('NOT_FOUND', `There is no ${vmId}.`, { retryable: false, remedy: 'None.' })
      return vm
    }
    const describe = (vmId: string) => {
      const { uniqueId: id, power } = find(vmId)
      const shape = { hostId: 'host', architecture: 'x86_64', firmware: 'BIOS', cpuCount: 1, memoryBytes: 1, disks: [], nics: [] } as const
      return { id: vmId, uniqueId: id, name: 'victim', power, ...shape, disks: [], nics: [] }
    }
    const arm = (vmId: string, fenceId: string) => {
      const vm = find(vmId)
      if (vm.fence && vm.fence.id !== fenceId) throw refused(`The fence ${vm.fence.id} is armed.`)
      vm.fence ??= { id: fenceId, closed: false }
      return vm
    }
    const unused = async () => {
      throw new Error('This is not called here.')
    }
    const fencing: NonNullable<ProviderConnection['fencing']> = {
      strength: 'host-lock',
      arm: ({ vmId, fenceId }) => call('arm', () => void arm(vmId, fenceId)),
      fence: ({ vmId, fenceId }) =>
        call('fence', () => {
          const vm = arm(vmId, fenceId)
          vm.fence!.closed = true
          if (vm.power === 'RUNNING') vm.power = 'STOPPED'
        }),
      confirm: ({ vmId }) =>
        call('confirm', () => {
          const { fence, power } = find(vmId)
          return {
            fenceId: fence?.id ?? null,
            armed: fence !== null,
            fenced: fence !== null && (fence.closed || power === 'STOPPED'),
            power,
          }
        }),
      release: ({ vmId, fenceId }) =>
        call('release', () => {
          const vm = find(vmId)
          if (vm.fence?.id === fenceId) vm.fence = null
        }),
    }
    const connection = {
      discoverTopology: () =>
        call('discoverTopology', () => ({ regions: [], networks: [], virtualMachines: Object.keys(state.machines).map(describe) })),
      virtualMachines: {
        describe: ({ vmId }) => call('describe', () => describe(vmId)),
        start: ({ vmId }) =>
          call('start', () => {
            const vm = find(vmId)
            if (vm.fence) throw refused(`The fence ${vm.fence.id} is armed.`)
            vm.power = 'RUNNING'
          }),
        stop: ({ vmId }) => call('stop', () => void (find(vmId).power = 'STOPPED')),
        suspend: unused,
        resume: ({ vmId }) =>
          call('resume', () => {
            const vm = find(vmId)
            if (vm.fence?.closed) throw refused(`The fence ${vm.fence.id} is in force.`)
            vm.power = 'RUNNING'
          }),
      },
      destination: {
        instantiate: unused,
        sealCopiedDisks: unused,
        bootFromCopiedDisk: unused,
        discardOverlay: unused,
        flattenOverlay: ({ signal }) => call('flattenOverlay', () => {}, signal),
        delete: unused,
        adopt: {
          start: unused,
          giveBack: ({ vmId }) =>
            call('giveBack', () => {
              const { adopted, ...vm } = find(vmId)
              if (adopted) state.machines[vmId] = { ...vm, power: 'STOPPED', fence: vm.fence ?? adopted }
            }),
        },
      },
      network: {
        isolate: unused,
        expose: ({ vmId, completedEventKey }) =>
          call('expose', () => {
            if (!completedEventKey || !state.records[completedEventKey]) throw refused('There is no completed event.')
            find(vmId).exposed = true
          }),
        reachability: unused,
      },
      migrationAgent: { install: unused, uninstall: () => call('uninstall', () => {}) },
      copyGuestData: agentToAgentCopy,
      get fencing() {
        return state.canFence ? fencing : undefined
      },
      records: {
        put: ({ record }) => {
          const isSame = () => JSON.stringify(state.records[record.key]?.content) === JSON.stringify(record.content)
          return call(isSame() ? 'putAgain' : 'put', () => {
            if (state.records[record.key] && !isSame()) throw refused(`The record ${record.key} is there.`)
            state.records[record.key] ??= record
          })
        },
        list: ({ keyPrefix }) =>
          call('list', () => {
            if (state.site === 'RECORDS_DAMAGED') throw new Error('A record is damaged.')
            return Object.values(state.records).filter(({ key }) => key.startsWith(keyPrefix))
          }),
      },
      async close() {},
    } satisfies Omit<ProviderConnection, 'fencing'> & { fencing: typeof fencing | undefined }
    state.connection = connection as ProviderConnection
    return state
  }

  return {
    database,
    directory,
    east: all['east']!,
    west: all['west']!,
    south: all['south']!,
    violations,
    interrupt,
    connections: {
      async connection(cloudId) {
        const found = all[cloudId]
        if (!found)
          throw new PortolanError('NOT_FOUND', `There is no connected cloud ${cloudId}.`, { retryable: false, remedy: 'Connect it.' })
        return found.connection
      },
    },
    async connect(...names) {
      const connectedAt = new Date()
      await database.write((orm) =>
        names.map((id) =>
          orm
            .insert(clouds)
            .values({ id, name: id, pluginId: id, sealedOptions: 'sealed', state: 'CONNECTED', capabilities: [], connectedAt })
            .onConflictDoNothing(),
        ),
      )
    },
    async close() {
      await database.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
