/**
 * Fences: a VM's directory says that it may not be started, and every start, whoever asks for it, reads that first under the VM's lock. Nothing else starts a VM of
 * this provider: a host that comes back from a power cut starts none.
 *
 *   none -- arm --> armed: not started, may be suspended and resumed -- fence --> fenced: not resumed either
 *    ^_________________________|______________ release ______________________________|
 */
import { type FenceState, type ProviderConnection, ProviderError } from '../../src/plugin-sdk/index.ts'
import type { Machine } from './machine.ts'
import { powerOf } from './describe.ts'
import { endProcess, findProcess } from './qemu-process.ts'
import type { Site } from './site.ts'

export function fencing(site: Site): NonNullable<ProviderConnection['fencing']> {
  return {
    strength: 'host-lock',

    arm: (operation) =>
      site.store.change('armed', operation, async ({ machine, save }) => {
        requireNoOther(machine, operation.fenceId)
        if (!machine.fence) await save({ fence: { fenceId: operation.fenceId, fenced: false } })
      }),

    fence: (operation) =>
      site.store.change('fenced', operation, async ({ machine, directory, save }) => {
        requireNoOther(machine, operation.fenceId)
        // First the lock, then the end of what runs: killed in between, the VM may still run, and the repeated call ends it.
        await save({ fence: { fenceId: operation.fenceId, fenced: true } })
        const power = await powerOf(await findProcess(directory), operation.signal)
        if (power === 'RUNNING' || power === 'UNKNOWN') await endProcess(directory, operation.signal)
      }),

    async confirm({ vmId, signal }): Promise<FenceState> {
      const { fence } = await site.store.read(vmId)
      const power = await powerOf(await findProcess(site.store.directoryOf(vmId)), signal)
      return {
        fenceId: fence?.fenceId ?? null,
        armed: fence !== null,
        fenced: fence !== null && (power === 'STOPPED' || (power === 'SUSPENDED' && fence.fenced)),
        power,
      }
    },

    release: (operation) =>
      site.store
        .change('released', operation, async ({ machine, save }) => {
          if (machine.fence?.fenceId === operation.fenceId) await save({ fence: null })
        })
        .catch((error: unknown) => {
          if (!(error instanceof ProviderError && error.code === 'INSUFFICIENT_CAPACITY')) throw error
          // The VM may not run until then, here or anywhere, so its caller waits for room rather than giving up.
          const { remedy, path } = error
          throw new ProviderError(error.code, error.message, { retryable: true, remedy, path, cause: error })
        }),
  }
}

/** Throws CONFLICT: the VM may not be started, so neither may a step begin that starts it. */
export function requireUnarmed({ vmId, fence }: Machine): void {
  if (fence) throw refused(vmId, fence.fenceId, 'started')
}

/** Throws CONFLICT: the VM may not be resumed. */
export function requireUnfenced({ vmId, fence }: Machine): void {
  if (fence?.fenced) throw refused(vmId, fence.fenceId, 'resumed')
}

/** Throws CONFLICT where the VM has another fence than `fenceId`. */
export function requireNoOther({ vmId, fence }: Machine, fenceId: string | null): void {
  if (fence && fence.fenceId !== fenceId)
    throw new ProviderError(
      'CONFLICT',
      `The virtual machine ${vmId} has a fence already, ${JSON.stringify(fence.fenceId)}. It is as it was.`,
      {
        retryable: false,
        remedy: 'Release that fence first, after making sure that what armed it is over.',
        path: ['fenceId'],
      },
    )
}

function refused(vmId: string, fenceId: string, how: 'started' | 'resumed'): ProviderError {
  return new ProviderError(
    'CONFLICT',
    `The virtual machine ${vmId} is fenced (${JSON.stringify(fenceId)}) and was not ${how}: another copy of it may be the live one. It is as it was.`,
    {
      retryable: false,
      remedy: "See the migration's verdict; the fence is released when this copy is the one that goes on.",
      path: ['vmId'],
    },
  )
}
