import { sql, type SQL } from 'drizzle-orm'
import type { SQLiteColumn } from 'drizzle-orm/sqlite-core'

/** Rows whose column contains the text, ignoring the case of ASCII letters; no filter where the text is absent. */
export function containing(column: SQLiteColumn, text: string | null | undefined): SQL | undefined {
  return text ? sql`instr(lower(${column}), lower(${text})) > 0` : undefined
}
