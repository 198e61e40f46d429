/** A group as it stands, read from the database: the basis of what its workflow does, of the gate before a cutover, and of what the API shows. */
import { asc, eq, getColumns } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { migrationGroupMembers, migrationGroups } from '../database/tables/migration-group.ts'
import { migrations } from '../database/tables/migration.ts'
import { isTriedAgain, memberStandings, type MemberStanding } from '../domain/migration-group.ts'
import { requireAllowed, type MigrationStanding } from '../domain/operator-actions.ts'

export type GroupRow = typeof migrationGroups.$inferSelect
type MemberRow = typeof migrationGroupMembers.$inferSelect

export interface Member extends MemberRow, MemberStanding {
  migration: {
    state: (typeof migrations.$inferSelect)['state']
    phase: (typeof migrations.$inferSelect)['phase']
    direction: (typeof migrations.$inferSelect)['direction']
    endState: (typeof migrations.$inferSelect)['endState']
    updatedAt: Date
  } | null
}

/** Members in the order of their starts. Null where there is no such group. */
export async function readGroup(
  database: Pick<Database, 'select'>,
  groupId: string,
): Promise<{ group: GroupRow; members: Member[] } | null> {
  const [group] = await database.select().from(migrationGroups).where(eq(migrationGroups.id, groupId))
  if (!group) return null
  const { state, phase, direction, endState, updatedAt } = migrations
  const rows = await database
    .select({ member: getColumns(migrationGroupMembers), migration: { state, phase, direction, endState, updatedAt } })
    .from(migrationGroupMembers)
    .leftJoin(migrations, eq(migrations.id, migrationGroupMembers.migrationId))
    .where(eq(migrationGroupMembers.groupId, groupId))
    .orderBy(asc(migrationGroupMembers.position))
  const standings = memberStandings(
    group,
    rows.map(({ member, migration }) => ({
      ...member,
      refused: member.refusalCode !== null && !isTriedAgain(member.refusalCode),
      migration,
    })),
  )
  return { group, members: rows.map(({ member, migration }) => ({ ...member, migration, ...standings.get(member.name)! })) }
}

/** Whether operators' wishes still reach it: it has neither ended nor passed the point of no return. */
export function isSteerable(migration: MigrationStanding): boolean {
  try {
    requireAllowed('CANCEL', migration)
    return true
  } catch {
    return false
  }
}
