import { eq } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { migrationGroupMembers } from '../database/tables/migration-group.ts'
import { readGroup } from './group-facts.ts'

export interface GroupCutover {
  /** When the group's operator wants it; what was said to the migration itself goes first. */
  cutoverAt: Date | null
  /** For which members it has to wait, as a sentence; null where there are none. */
  awaits: string | null
}

/** What a migration's group says about its cutover; null where it is in none. Holds after the group's end too, for a member that is retried. */
export async function groupCutover(database: Pick<Database, 'select'>, migrationId: string): Promise<GroupCutover | null> {
  const [own] = await database.select().from(migrationGroupMembers).where(eq(migrationGroupMembers.migrationId, migrationId))
  const found = own && (await readGroup(database, own.groupId))
  if (!own || !found) return null
  const stateOf = new Map(found.members.map(({ name, state }) => [name, state]))
  const awaited = own.dependsOn.filter((name) => stateOf.get(name) !== 'COMPLETED')
  const list = awaited.slice(0, 5).map((name) => `${name} (${stateOf.get(name)})`)
  const more = awaited.length > list.length ? ` and ${awaited.length - list.length} more` : ''
  return {
    cutoverAt: found.group.cutoverAt,
    awaits:
      awaited.length > 0 ? `It cuts over once the members of its group that it depends on are COMPLETED: ${list.join(', ')}${more}.` : null,
  }
}
