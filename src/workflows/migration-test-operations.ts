import { randomUUID } from 'node:crypto'
import { migrationTests } from '../database/tables/migration-test.ts'
import type { Database } from '../database/client.ts'
import { PortolanError, type ErrorCode } from '../domain/errors.ts'
import type { CloudConnections } from './cloud-connections.ts'
import { translated } from './failure.ts'
import type { Idempotency } from './idempotency.ts'
import { migrationIn } from './migration-operations.ts'
import type { MigrationTestStore } from './migration-test-store.ts'
import type { Operations } from './operations.ts'

// A type, not an interface: it has to be a record of strings.
type TestAnswer = { migrationId: string; testId: string }

const connectTimeoutMs = 60_000

/** Stores what was asked for; the migration's own workflow boots it between two rounds (see migration-test-run.ts). */
export function createMigrationTestOperations(dependencies: {
  database: Database
  connections: Pick<CloudConnections, 'connection'>
  idempotency: Idempotency
  tests: Pick<MigrationTestStore, 'open'>
}): Pick<Operations, 'testMigration'> {
  const { database, connections, idempotency, tests } = dependencies
  return {
    testMigration: (actor, input) =>
      translated(() =>
        idempotency.once<TestAnswer>(actor, 'testMigration', input, async (commit) => {
          const { migrationId } = input
          const { destinationCloudId } = await database.transaction((tx) => migrationIn(tx, migrationId))
          const { destination } = await connections.connection(destinationCloudId, AbortSignal.timeout(connectTimeoutMs))
          if (!destination.testBoot)
            throw refused('UNSUPPORTED', migrationId, "the destination's provider has no test boot", 'Cut over, and roll back if need be.')
          const testId = randomUUID()
          return commit(
            async (tx) => {
              const row = await migrationIn(tx, migrationId)
              if (row.state !== 'RUNNING' || row.direction !== 'FORWARD' || row.phase !== 'READY_TO_CUT_OVER')
                throw refused('NOT_ALLOWED_NOW', migrationId, `it is ${row.state} in ${row.phase}`, 'Wait until it is READY_TO_CUT_OVER.')
              if ((await tests.open(row)).length > 0)
                throw refused('NOT_ALLOWED_NOW', migrationId, 'another test of it has not ended', 'Wait for that one, and see its result.')
              const { attempt } = row
              await tx.insert(migrationTests).values({ id: testId, migrationId, attempt, state: 'PENDING', requestedAt: new Date() })
              return { migrationId, testId }
            },
            [{ topic: 'MIGRATION', subject: migrationId }],
          )
        }),
      ),
  }
}

function refused(code: ErrorCode, id: string, because: string, remedy: string): PortolanError {
  return new PortolanError(code, `The test of migration ${id} was refused, since ${because}; nothing was changed.`, {
    retryable: false,
    remedy,
    path: ['input', 'migrationId'],
  })
}
