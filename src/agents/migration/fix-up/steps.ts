import { addresses } from './addresses.ts'
import { bootLoader } from './boot-loader.ts'
import { fstabByUuid } from './fstab-by-uuid.ts'
import { nicNames } from './nic-names.ts'
import { initramfsDrivers } from './initramfs-drivers.ts'
import { selinuxLabels } from './selinux-labels.ts'
import type { FixUpStep } from './fix-up-step.ts'

/** In this order: labels come last, since any of the others may make files. */
export const fixUpSteps: readonly FixUpStep[] = [fstabByUuid, nicNames, addresses, initramfsDrivers, bootLoader, selinuxLabels]
