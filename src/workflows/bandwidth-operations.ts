import { eq } from 'drizzle-orm'
import { migrations } from '../database/tables/migration.ts'
import { faultInBandwidthSchedule } from '../domain/bandwidth-schedule.ts'
import { PortolanError } from '../domain/errors.ts'
import { isEnded } from '../domain/operator-actions.ts'
import { translated } from './failure.ts'
import type { Idempotency } from './idempotency.ts'
import { migrationIn } from './migration-operations.ts'
import type { Operations } from './operations.ts'

// A type, not an interface: it has to be a record of strings.
type MigrationAnswer = { migrationId: string }

/** Writes the operator's limit; the round that runs, or the next one, tells the agent. */
export function createBandwidthOperations({ idempotency }: { idempotency: Idempotency }): Pick<Operations, 'setBandwidthLimit'> {
  return {
    setBandwidthLimit: (actor, input) =>
      translated(() =>
        idempotency.once<MigrationAnswer>(actor, 'setBandwidthLimit', input, (commit) => {
          const { migrationId, bandwidth } = input
          const fault = faultInBandwidthSchedule(bandwidth)
          if (fault) throw refused('INVALID_INPUT', `The bandwidth limit ${fault}; nothing was changed.`, 'bandwidth', 'Correct the limit.')
          return commit(
            async (tx) => {
              const { state } = await migrationIn(tx, migrationId)
              if (isEnded(state)) {
                const message = `The limit of migration ${migrationId} was not changed, since it has ended (${state}).`
                throw refused('NOT_ALLOWED_NOW', message, 'migrationId', 'A retry, or another migration, takes a limit of its own.')
              }
              await tx.update(migrations).set({ bandwidth, updatedAt: new Date() }).where(eq(migrations.id, migrationId))
              return { migrationId }
            },
            [{ topic: 'MIGRATION', subject: migrationId }],
          )
        }),
      ),
  }
}

function refused(code: 'INVALID_INPUT' | 'NOT_ALLOWED_NOW', message: string, field: string, remedy: string): PortolanError {
  return new PortolanError(code, message, { retryable: false, remedy, path: ['input', field] })
}
