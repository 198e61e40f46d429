import { eq } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { migrationGroupMembers } from '../database/tables/migration-group.ts'
import { migrations } from '../database/tables/migration.ts'
import type { DurableWorkflow } from '../engine/durable-workflow.ts'
import type { GroupRunner } from './group-runner.ts'

/** The engine keeps its journals under this name. */
export const groupWorkflowName = 'MigrationGroup'

/** The engine takes each run's key once: the group's id, and after retries of members, each of which may have begun the group anew, more than that. */
export async function groupRunKey(database: Pick<Database, 'select'>, groupId: string): Promise<string> {
  const members = await database
    .select({ attempt: migrations.attempt })
    .from(migrationGroupMembers)
    .innerJoin(migrations, eq(migrations.id, migrationGroupMembers.migrationId))
    .where(eq(migrationGroupMembers.groupId, groupId))
  const retries = members.reduce((sum, { attempt }) => sum + attempt - 1, 0)
  return retries === 0 ? groupId : `${groupId}.${retries}`
}

/** One step of the journal a slice of time: what was done is in the database. */
export function createGroupWorkflow(runner: GroupRunner): DurableWorkflow {
  return {
    name: groupWorkflowName,
    async run(key, steps) {
      const [groupId = ''] = key.split('.')
      let next: string | null = 'WATCH'
      while (next !== null) next = await steps.run(next, () => runner.advance(groupId))
    },
  }
}
