import type { UnmappedNetworkPolicy } from '../src/domain/migration-request.ts'
import { describedEnum } from './described-enum.ts'

export const UnmappedNetworkPolicyEnum = describedEnum<UnmappedNetworkPolicy>(
  'UnmappedNetworkPolicy',
  'What happens to an interface whose network the network map does not name.',
  {
    FIRST: "It goes to the destination's first network; pre-flight says so.",
    REFUSE: 'Pre-flight refuses the migration.',
  },
)
