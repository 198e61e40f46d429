import { addresses } from './addresses.ts'
import { fstabByUuid } from './fstab-by-uuid.ts'
import { nicNames } from './nic-names.ts'
import type { FixUpStep } from './fix-up-step.ts'

/** In this order. */
export const fixUpSteps: readonly FixUpStep[] = [fstabByUuid, nicNames, addresses]
