import type { ChildOrigin } from '../src/domain/job.ts'
import { describedEnum } from './described-enum.ts'

export const ChildOriginEnum = describedEnum<ChildOrigin>('ChildOrigin', 'How the children of jobs come to be at a cloud.', {
  FORKED:
    'They continue from the saved state of their parent VM, warm, within a fraction of a second. The cloud enforces what they may do.',
  BOOTED:
    'The cloud can not fork: each boots by itself and warms up, in the time of a boot, isolated from every network. Of their privileges only `maxLifetimeMs` and `peers` are enforced, so jobs that ask for others have no children there.',
})
