import { ProviderError } from '../../src/plugin-sdk/index.ts'
import type { MachineChange } from './machine-store.ts'

/** CONFLICT: the VM is not where this step begins. */
export function wrongPhase({ machine }: MachineChange, why: string): ProviderError {
  return new ProviderError('CONFLICT', `The virtual machine ${machine.vmId} can't do this now: ${why}. It is as it was.`, {
    retryable: false,
    remedy: 'Describe the virtual machine, and take the step that fits its state.',
    path: ['vmId'],
  })
}
