import { PortolanError } from '../../domain/errors.ts'
import { done, type Phase } from '../phase.ts'

export const preFlight: Phase = {
  name: 'PRE_FLIGHT',
  control: 'PAUSABLE',
  timeoutMs: 5 * 60_000,
  async do(context) {
    const { id, request, copyKept, rollsBackMigrationId, destinationVirtualMachineId } = context.migration
    const isThere = copyKept || rollsBackMigrationId !== null
    const findings = await context.settings.preFlight(request, context.signal, {
      migrationId: id,
      copyRowId: isThere ? destinationVirtualMachineId : null,
    })
    await context.store.write(context.migration, { patch: { findings } })
    const blockers = findings.filter(({ severity }) => severity === 'BLOCKER')
    if (blockers.length > 0)
      throw new PortolanError(
        'PRE_FLIGHT_FAILED',
        `Pre-flight refused it, and nothing was changed: ${blockers.map(({ message }) => message).join(' ')}`,
        {
          retryable: false,
          remedy: blockers.map(({ remedy }) => remedy).join(' '),
        },
      )
    return done
  },
  // It only reads.
  undo: null,
}
