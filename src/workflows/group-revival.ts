/** A group that ended FAILED runs again once a member is retried: those that were never started for its sake are, and it ends anew. */
import { eq } from 'drizzle-orm'
import type { Database, Transaction } from '../database/client.ts'
import { migrationGroupMembers, migrationGroups } from '../database/tables/migration-group.ts'
import { isGroupEnded } from '../domain/migration-group.ts'
import type { GroupRow } from './group-facts.ts'

/** The id of the group where it runs again now; null where the migration is in none, or in one that hasn't ended, or that was cancelled: the others of that one stay as they are. */
export async function reviveGroup(tx: Transaction, migrationId: string, engineId: string): Promise<string | null> {
  const group = await groupOf(tx, migrationId)
  if (!group || !isGroupEnded(group.state) || group.desired === 'CANCEL') return null
  await tx
    .update(migrationGroups)
    .set({ state: 'RUNNING', desired: 'RUN', engineId, endedAt: null, updatedAt: new Date() })
    .where(eq(migrationGroups.id, group.id))
  return group.id
}

/** The group of the migration that runs and that this engine has; null where there is none. */
export async function runningGroup(database: Pick<Database, 'select'>, migrationId: string, engineId: string): Promise<string | null> {
  const group = await groupOf(database, migrationId)
  return group && group.engineId === engineId && !isGroupEnded(group.state) ? group.id : null
}

async function groupOf(database: Pick<Database, 'select'>, migrationId: string): Promise<GroupRow | null> {
  const [member] = await database
    .select({ groupId: migrationGroupMembers.groupId })
    .from(migrationGroupMembers)
    .where(eq(migrationGroupMembers.migrationId, migrationId))
  if (!member) return null
  const [group] = await database.select().from(migrationGroups).where(eq(migrationGroups.id, member.groupId))
  return group ?? null
}
