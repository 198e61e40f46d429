import { inArray, type SQL } from 'drizzle-orm'
import type { SQLiteColumn } from 'drizzle-orm/sqlite-core'
import { invalidInput } from './invalid-input.ts'
import { limits } from './limits.ts'

/**
 * Rows whose column has one of the values; no filter where they are absent. `path` says where in the arguments they stood.
 * @throws PortolanError INVALID_INPUT for more values than a statement should carry.
 */
export function anyOf<Column extends SQLiteColumn>(
  column: Column,
  values: readonly Column['_']['data'][] | null | undefined,
  path: readonly string[],
): SQL | undefined {
  if (!values) return undefined
  const different = [...new Set(values)]
  if (different.length > limits.filterValues)
    throw invalidInput(`must have ${limits.filterValues} different values at most, and has ${different.length}`, path)
  return inArray(column, different)
}
