import { and, eq, inArray } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { migrationGroupMembers, migrationGroups } from '../database/tables/migration-group.ts'
import { migrations } from '../database/tables/migration.ts'

export interface GroupCutover {
  /** When the group's operator wants it; what was said to the migration itself goes first. */
  cutoverAt: Date | null
  /** For which members it has to wait, as a sentence; null where there are none. */
  awaits: string | null
}

/**
 * What a migration's group says about its cutover; null where it is in none. Holds after the group's end too, for a member that is retried. Asked often: it reads the
 * member and those that it depends on, not the group.
 */
export async function groupCutover(database: Pick<Database, 'select'>, migrationId: string): Promise<GroupCutover | null> {
  const [own] = await database
    .select({ groupId: migrationGroups.id, cutoverAt: migrationGroups.cutoverAt, dependsOn: migrationGroupMembers.dependsOn })
    .from(migrationGroupMembers)
    .innerJoin(migrationGroups, eq(migrationGroups.id, migrationGroupMembers.groupId))
    .where(eq(migrationGroupMembers.migrationId, migrationId))
  if (!own) return null
  const { groupId, cutoverAt, dependsOn } = own
  if (dependsOn.length === 0) return { cutoverAt, awaits: null }
  const others = await database
    .select({ name: migrationGroupMembers.name, state: migrations.state })
    .from(migrationGroupMembers)
    .leftJoin(migrations, eq(migrations.id, migrationGroupMembers.migrationId))
    .where(and(eq(migrationGroupMembers.groupId, groupId), inArray(migrationGroupMembers.name, dependsOn)))
  const completed = new Set(others.filter(({ state }) => state === 'COMPLETED').map(({ name }) => name))
  const awaited = dependsOn.filter((name) => !completed.has(name))
  const stateOf = (name: string) => others.find((other) => other.name === name)?.state ?? 'not started'
  const list = awaited.slice(0, 5).map((name) => `${name} (${stateOf(name)})`)
  const more = awaited.length > list.length ? ` and ${awaited.length - list.length} more` : ''
  return {
    cutoverAt,
    awaits:
      awaited.length > 0 ? `It cuts over once the members of its group that it depends on are COMPLETED: ${list.join(', ')}${more}.` : null,
  }
}
