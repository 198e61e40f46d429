import { inArray } from 'drizzle-orm'
import type { SQLiteColumn, SQLiteTable } from 'drizzle-orm/sqlite-core'
import { builder } from './builder.ts'

/**
 * A type whose objects are rows, found by id: a field of this type may give a row, or a row's id, which is read together with the others of its level.
 * Nothing is remembered between reads, since the events of one subscription share a context and each must show the present.
 */
export function rowNode<Table extends SQLiteTable & { id: SQLiteColumn; $inferSelect: { id: string } }>(name: string, table: Table) {
  type Row = Table['$inferSelect']
  return builder.loadableNodeRef<Row>(name, {
    id: { description: `Opaque and stable id of this ${name}.`, resolve: (row) => row.id },
    load: async (ids: string[], { db }) => (await db.select().from(table).where(inArray(table.id, ids))) as Row[],
    sort: (row) => row.id,
    loaderOptions: { cache: false },
  })
}
