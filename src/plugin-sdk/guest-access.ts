/** The part of a cloud's options that says how guests are logged in to, the same for every plugin that installs by SSH. */
import { z } from 'zod'
import type { VirtualMachineDescription } from './contract.ts'
import { ProviderError } from './errors.ts'

/** A list of accesses. Put it into a plugin's options as `guestAccess: guestAccessOptions`. */
export const guestAccessOptions = z
  .array(
    z.strictObject({
      match: z.string().min(1).describe("A VM's unique id or its name, or * for every VM without an entry of its own"),
      user: z
        .string()
        .regex(/^[A-Za-z_][A-Za-z0-9_.-]{0,63}$/, 'A login name, such as root')
        .describe('A user that is root, or may run sudo without a password'),
      privateKey: z.string().includes('PRIVATE KEY', { message: 'A private key in PEM or OpenSSH format, without a passphrase' }),
      hostKeys: z
        .array(z.string().regex(/^[a-z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?$/, 'A line such as "ssh-ed25519 AAAA…"'))
        .min(1)
        .describe("The guest's public host keys. There is no trust on first use"),
    }),
  )
  .default([])

export type GuestAccess = z.output<typeof guestAccessOptions>[number]

/** The entry for the VM: by its unique id, else by its name, else `*`. Throws ProviderError INVALID_OPTIONS where there is none. */
export function accessFor(entries: readonly GuestAccess[], vm: Pick<VirtualMachineDescription, 'uniqueId' | 'name'>): GuestAccess {
  const entry =
    entries.find(({ match }) => match.toLowerCase() === vm.uniqueId.toLowerCase()) ??
    entries.find(({ match }) => match === vm.name) ??
    entries.find(({ match }) => match === '*')
  if (entry) return entry
  throw new ProviderError(
    'INVALID_OPTIONS',
    `The cloud's options have no guest access for the virtual machine ${JSON.stringify(vm.name)} (${vm.uniqueId}).`,
    {
      retryable: false,
      remedy: `Add an entry to the cloud's guestAccess whose match is ${JSON.stringify(vm.uniqueId)}, the name, or "*".`,
      path: ['options', 'guestAccess'],
    },
  )
}
