import type { Actor } from '../src/workflows/operations.ts'
import { describedEnum } from './described-enum.ts'

export const Role = describedEnum<Actor['role']>('Role', 'What the bearer of a token may do. Each may do what those before it may.', {
  VIEWER: 'May read everything that the API shows, but not the tokens, the audit trail and the consoles of guests.',
  OPERATOR:
    'May migrate, steer migrations and groups, reconcile, set webhook secrets, refresh topologies, submit and cancel jobs, and read consoles of guests.',
  ADMIN:
    'May connect and disconnect clouds, register and delete parent VMs, set concurrency limits, attest that a source is dead, make and revoke tokens, and read the audit trail.',
})
