/** What src/workflows/phase-lists.ts was in the release before version 2. */
import { phaseLists as present, type PhaseLists } from '../../../src/workflows/phase-lists.ts'

export * from '../../../src/workflows/phase-lists.ts'
export const phaseLists: PhaseLists = { 1: present[1]! }
