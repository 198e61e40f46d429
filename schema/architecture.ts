import { describedEnum } from './described-enum.ts'

/** Values are the database's; names are GraphQL's. */
export const Architecture = describedEnum<'x86_64' | 'aarch64'>('Architecture', 'The instruction set of a processor.', {
  x86_64: '64-bit x86, also called amd64.',
  aarch64: '64-bit Arm, also called arm64.',
})

export type ArchitectureName = 'x86_64' | 'aarch64'
