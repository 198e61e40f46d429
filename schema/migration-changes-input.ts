import type { MigrationChanges } from '../src/domain/migration-request.ts'
import { builder } from './builder.ts'
import { HealthCheckInput, toHealthCheck } from './health-check-input.ts'
import { HookInput, toHooks } from './hook-input.ts'
import { InterfaceAddressingInput, toInterfaceAddressing } from './interface-addressing-input.ts'
import { NonConvergencePolicyEnum } from './migration-enums.ts'
import { toPermittedDowntimeMs } from './migration-request-input.ts'

export const MigrationChangesInput = builder.inputType('MigrationChangesInput', {
  description:
    'What of its request a migration does otherwise from this attempt on, under the rules of `startMigration`. What is left away stays as it was. None of it decides what is copied.',
  fields: (t) => ({
    permittedDowntimeMs: t.int({
      description: 'The criterion for the cutover is: estimated remaining time at most this. In milliseconds, at least 1.',
    }),
    nonConvergencePolicy: t.field({
      type: NonConvergencePolicyEnum,
      description: 'What happens when the guest writes faster than the copy can follow.',
    }),
    healthCheck: t.field({
      type: HealthCheckInput,
      description:
        'The whole check, in place of the one before. While `copyKept`, of the same port: the destination lets the control plane in at no other.',
    }),
    hooks: t.field({ type: [HookInput], description: 'All hooks, in place of those before; an empty list for none. At most 32.' }),
    addressing: t.field({
      type: [InterfaceAddressingInput],
      description: 'All interfaces that get other addresses in the new place, in place of those before; an empty list for none.',
    }),
  }),
})

const place = ['input', 'changes']

/** @throws PortolanError INVALID_INPUT with the path of the first part that breaks a rule. */
export function toMigrationChanges(input: typeof MigrationChangesInput.$inferInput): MigrationChanges {
  const { permittedDowntimeMs, nonConvergencePolicy, healthCheck, hooks, addressing } = input
  return {
    // 0 is refused, and not taken for one that was left away.
    ...(typeof permittedDowntimeMs === 'number' && { permittedDowntimeMs: toPermittedDowntimeMs(permittedDowntimeMs, place) }),
    ...(nonConvergencePolicy && { nonConvergencePolicy }),
    ...(healthCheck && { healthCheck: toHealthCheck(healthCheck, place) }),
    ...(hooks && { hooks: toHooks(hooks, place) }),
    ...(addressing && { addressing: toInterfaceAddressing(addressing, place) }),
  }
}
