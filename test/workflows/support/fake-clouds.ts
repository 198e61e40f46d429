/** The two providers over the fake world, with a hook before and after each call. */
import {
  agentToAgentCopy,
  ProviderError,
  type ProviderConnection,
  type Topology,
  type VirtualMachineDescription,
} from '../../../src/plugin-sdk/index.ts'
import { sourceUniqueId, type FakeWorld, type WorldState } from './fake-world.ts'

/** `when` is `after` once the call had its effect, before its answer gets to the caller. */
export type CallHook = (call: string, when: 'before' | 'after') => void | Promise<void>

export const sourceMachineId = 'vm-1'
const gibibyte = 1024 ** 3

export function createFakeClouds(
  world: FakeWorld,
  options: { healthPort: number; hook?: CallHook },
): { east: ProviderConnection; west: ProviderConnection } {
  const hook = options.hook ?? (() => {})

  async function call<T>(name: string, apply: (state: WorldState) => T, signal?: AbortSignal): Promise<T> {
    await hook(name, 'before')
    signal?.throwIfAborted()
    const result = world.change(name, apply)
    await hook(name, 'after')
    return result
  }

  /** Done once for an operation's id, and answered the same ever after. */
  function once<T>(
    name: string,
    { operationId, signal }: { operationId: string; signal?: AbortSignal },
    apply: (state: WorldState) => T,
  ): Promise<T> {
    return call(
      name,
      (state) => {
        if (operationId in state.operations) return state.operations[operationId] as T
        const answer = apply(state)
        state.operations[operationId] = answer ?? null
        return answer
      },
      signal,
    )
  }

  const absent = <T>(): T => {
    throw new ProviderError('UNSUPPORTED', 'The fake cloud does not do this.', { retryable: false, remedy: 'None.' })
  }

  const conflict = (message: string) => new ProviderError('CONFLICT', message, { retryable: false, remedy: 'None.' })
  const fenced = () => conflict('The machine is fenced.')
  const requireNoOther = (fence: { id: string } | null | undefined, fenceId: string) => {
    if (fence && fence.id !== fenceId) throw conflict(`The machine has a fence already, ${fence.id}.`)
  }

  const machine = (state: WorldState, vmId: string) => {
    const found = state.machines[vmId]
    if (!found) throw new ProviderError('NOT_FOUND', `There is no machine ${vmId}.`, { retryable: false, remedy: 'None.' })
    return found
  }

  const records = (site: 'east' | 'west'): ProviderConnection['records'] => ({
    put: ({ record }) =>
      call(`${site}.put`, (state) => {
        const there = state.records[record.key]
        if (there && JSON.stringify(there.content) !== JSON.stringify(record.content))
          throw conflict(`The record ${record.key} is there with other content.`)
        state.records[record.key] ??= record
      }),
    list: ({ keyPrefix }) => call(`${site}.list`, (state) => Object.values(state.records).filter(({ key }) => key.startsWith(keyPrefix))),
  })

  const common = {
    copyGuestData: agentToAgentCopy,
    async close() {},
  }

  const east: ProviderConnection = {
    ...common,
    discoverTopology: () => call('east.discoverTopology', (state) => topology('east', [sourceDescription(state)])),
    virtualMachines: {
      describe: () => call('east.describe', sourceDescription),
      start: (operation) =>
        once('east.start', operation, (state) => {
          if (state.source.fence) throw fenced()
          state.source.power = 'RUNNING'
        }),
      stop: (operation) => once('east.stop', operation, (state) => void (state.source.power = 'STOPPED')),
      suspend: (operation) => once('east.suspend', operation, (state) => void (state.source.power = 'SUSPENDED')),
      resume: (operation) =>
        once('east.resume', operation, (state) => {
          if (state.source.fence?.closed) throw fenced()
          if (state.source.power === 'SUSPENDED') state.source.power = 'RUNNING'
        }),
    },
    destination: {
      instantiate: async () => absent(),
      sealCopiedDisks: async () => absent(),
      bootFromCopiedDisk: async () => absent(),
      discardOverlay: async () => absent(),
      flattenOverlay: async () => absent(),
      delete: async () => absent(),
    },
    network: {
      isolate: async () => absent(),
      expose: async () => absent(),
      reachability: () => call('east.reachability', () => ({ fromControlPlane: null, controlPlaneFromGuest: '10.0.2.2' })),
    },
    migrationAgent: {
      install: (request) => once('east.install', request, (state) => void (state.source.agentInstance ??= `source-${request.operationId}`)),
      uninstall: (operation) =>
        once('east.uninstall', operation, (state) => {
          state.source.agentInstance = null
          state.source.freeze = null
        }),
    },
    records: records('east'),
    fencing: {
      strength: 'power',
      arm: (operation) =>
        once('east.arm', operation, ({ source }) => {
          requireNoOther(source.fence, operation.fenceId)
          source.fence ??= { id: operation.fenceId, closed: false }
        }),
      fence: (operation) =>
        once('east.fence', operation, ({ source }) => {
          source.fence = { id: operation.fenceId, closed: true }
          if (source.power === 'RUNNING') source.power = 'STOPPED'
        }),
      confirm: () =>
        call('east.confirm', ({ source: { fence, power } }) => ({
          fenceId: fence?.id ?? null,
          armed: fence !== null,
          fenced: fence?.closed === true && power !== 'RUNNING',
          power,
        })),
      release: (operation) =>
        once('east.release', operation, ({ source }) => {
          if (source.fence?.id === operation.fenceId) source.fence = null
        }),
    },
  }

  const west: ProviderConnection = {
    ...common,
    discoverTopology: () =>
      call('west.discoverTopology', (state) =>
        topology(
          'west',
          Object.entries(state.machines).map(([id, vm]) => description(id, vm.uniqueId, vm.power)),
        ),
      ),
    virtualMachines: {
      describe: ({ vmId }) =>
        call('west.describe', (state) => description(vmId, machine(state, vmId).uniqueId, machine(state, vmId).power)),
      console: () => call('west.console', () => ({ text: 'login:' })),
      start: (operation) =>
        once('west.start', operation, (state) => {
          if (machine(state, operation.vmId).fence) throw fenced()
          machine(state, operation.vmId).power = 'RUNNING'
        }),
      stop: (operation) => once('west.stop', operation, (state) => void (machine(state, operation.vmId).power = 'STOPPED')),
      suspend: async () => absent(),
      resume: (operation) =>
        once('west.resume', operation, (state) => {
          const held = machine(state, operation.vmId)
          if (held.fence?.closed) throw fenced()
          if (held.power === 'SUSPENDED') held.power = 'RUNNING'
        }),
    },
    destination: {
      instantiate: (request) =>
        once('west.instantiate', request, (state) => {
          // As with libvirt and QEMU: a machine that is made anew has the id of the one before it.
          const vmId = request.virtualMachine.uniqueId
          state.machines[vmId] = {
            uniqueId: vmId,
            power: 'RUNNING',
            system: 'LANDING',
            content: 0,
            sealed: false,
            exposed: false,
            overlay: false,
          }
          return { vmId }
        }),
      sealCopiedDisks: (operation) =>
        once('west.seal', operation, (state) => void Object.assign(machine(state, operation.vmId), { sealed: true, overlay: true })),
      bootFromCopiedDisk: (operation) => once('west.boot', operation, (state) => void (machine(state, operation.vmId).system = 'COPY')),
      discardOverlay: (operation) =>
        once('west.discardOverlay', operation, (state) => {
          const kept = machine(state, operation.vmId)
          if (kept.exposed) throw new ProviderError('CONFLICT', 'It was exposed.', { retryable: false, remedy: 'None.' })
          Object.assign(kept, { power: 'RUNNING', system: 'LANDING', sealed: false, overlay: false })
        }),
      testBoot: {
        start: (operation) =>
          once('west.testBoot.start', operation, (state) => {
            const { uniqueId, content } = machine(state, operation.vmId)
            const vmId = `test-${operation.testId}`
            state.machines[vmId] = {
              ...machine(state, operation.vmId),
              uniqueId: `test-of-${uniqueId}`,
              system: 'COPY',
              content,
              sealed: true,
            }
            return { vmId }
          }),
        remove: (operation) => once('west.testBoot.remove', operation, (state) => void delete state.machines[`test-${operation.testId}`]),
      },
      adopt: {
        start: (request) =>
          once('west.adopt.start', request, (state) => {
            const { left: adopted, ...left } = machine(state, request.vmId)
            if (adopted || left.power !== 'STOPPED') throw conflict('The machine is adopted already, or not off.')
            state.machines[request.vmId] = { ...left, left, power: 'RUNNING', system: 'LANDING', exposed: false }
          }),
        giveBack: (operation) =>
          once('west.adopt.giveBack', operation, (state) => {
            const { left, exposed } = machine(state, operation.vmId)
            if (exposed && left) throw conflict('The machine was exposed.')
            if (left) state.machines[operation.vmId] = left
          }),
      },
      flattenOverlay: (operation) =>
        once('west.flatten', operation, (state) => {
          const { left: _left, ...merged } = machine(state, operation.vmId)
          state.machines[operation.vmId] = { ...merged, overlay: false }
        }),
      delete: (operation) => once('west.delete', operation, (state) => void delete state.machines[operation.vmId]),
    },
    network: {
      isolate: async () => absent(),
      expose: (operation) => once('west.expose', operation, (state) => void (machine(state, operation.vmId).exposed = true)),
      reachability: ({ vmId }) =>
        call('west.reachability', (state) => ({
          fromControlPlane: state.machines[vmId] ? { host: '127.0.0.1', port: options.healthPort } : null,
          controlPlaneFromGuest: '192.168.0.1',
        })),
    },
    migrationAgent: { install: async () => absent(), uninstall: async () => absent() },
    records: records('west'),
    fencing: {
      strength: 'power',
      arm: (operation) =>
        once('west.arm', operation, (state) => {
          const copy = machine(state, operation.vmId)
          requireNoOther(copy.fence, operation.fenceId)
          copy.fence ??= { id: operation.fenceId, closed: false }
        }),
      fence: (operation) =>
        once('west.fence', operation, (state) => {
          const copy = machine(state, operation.vmId)
          copy.fence = { id: operation.fenceId, closed: true }
          if (copy.power === 'RUNNING') copy.power = 'STOPPED'
        }),
      confirm: ({ vmId }) =>
        call('west.confirm', (state) => {
          const { fence, power } = machine(state, vmId)
          return { fenceId: fence?.id ?? null, armed: fence !== undefined, fenced: fence?.closed === true && power !== 'RUNNING', power }
        }),
      release: (operation) =>
        once('west.release', operation, (state) => {
          const copy = machine(state, operation.vmId)
          if (copy.fence?.id === operation.fenceId) delete copy.fence
        }),
    },
  }
  return { east, west }

  function sourceDescription(state: WorldState): VirtualMachineDescription {
    return description(sourceMachineId, sourceUniqueId, state.source.power)
  }
}

function description(id: string, uniqueId: string, power: VirtualMachineDescription['power']): VirtualMachineDescription {
  return {
    id,
    uniqueId,
    name: 'victim',
    power,
    hostId: 'host',
    architecture: 'x86_64',
    firmware: 'BIOS',
    cpuCount: 1,
    memoryBytes: gibibyte,
    disks: [{ id: `${id}-disk`, index: 0, sizeBytes: 2 * gibibyte, bus: 'virtio' }],
    nics: [{ id: `${id}-nic`, index: 0, mac: '52:54:00:00:00:01', networkId: 'net', addresses: [] }],
  }
}

function topology(name: string, virtualMachines: VirtualMachineDescription[]): Topology {
  // Room for one machine, which counts as taken from the beginning on.
  const freeDiskBytes = Math.max(0, 2 * gibibyte * (1 - virtualMachines.length))
  const host = { id: 'host', name: `${name}-host`, architecture: 'x86_64' as const, cpuCount: 4, memoryBytes: 64 * gibibyte, freeDiskBytes }
  return {
    regions: [{ id: 'region', name: `${name}-region`, zones: [{ id: 'zone', name: `${name}-zone`, hosts: [host] }] }],
    networks: [{ id: 'net', name: `${name}-net`, subnets: [], controlPlaneFromGuest: '192.168.0.1' }],
    virtualMachines,
  }
}
