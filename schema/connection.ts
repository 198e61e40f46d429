import { resolveCursorConnection, type DefaultConnectionArguments } from '@pothos/plugin-relay'
import { and, count, sql, type SQL } from 'drizzle-orm'
import type { SQLiteColumn, SQLiteTable } from 'drizzle-orm/sqlite-core'
import { PortolanError } from '../src/domain/errors.ts'
import type { SchemaDatabase } from './context.ts'
import { limits } from './limits.ts'

/** An order of rows: by this column, then by id, so that no two rows are equal and a page never skips or repeats one. */
export interface RowOrder {
  column: SQLiteColumn
  direction: 'ASC' | 'DESC'
}

interface PageRequest<Row> {
  args: DefaultConnectionArguments
  where: (SQL | undefined)[]
  order: RowOrder
  /** The raw (not mapped) value of the order's column in a row. */
  orderValue: (row: Row) => string | number
}

/** `complexity` option of a connection's field: a page counts as many times as it may have items. */
export const pageComplexity = (args: { first?: number | null | undefined; last?: number | null | undefined }) => ({
  field: 1,
  multiplier: Math.max(1, Math.min(args.first ?? args.last ?? limits.defaultPageSize, limits.pageSize)),
})

/**
 * A page of a table's rows as a Relay connection, by keyset: later pages cost what the first one does, and rows that come or go do not shift it.
 * @throws PortolanError INVALID_INPUT for a page size or cursor that is none.
 */
export async function page<Row extends { id: string }>(
  db: SchemaDatabase,
  table: SQLiteTable & { id: SQLiteColumn },
  request: PageRequest<Row>,
) {
  const { args, order } = request
  checkPageSizes(args)
  const where = and(...request.where)
  const connection = await resolveCursorConnection<Promise<Row[]>>(
    {
      args,
      defaultSize: limits.defaultPageSize,
      maxSize: limits.pageSize,
      toCursor: (row: Row) => encodeCursor([request.orderValue(row), row.id]),
    },
    async ({ before, after, limit, inverted }) => {
      const ascending = (order.direction === 'ASC') !== inverted
      const direction = sql.raw(ascending ? 'asc' : 'desc')
      const forward = order.direction === 'ASC'
      const rows = await db
        .select()
        .from(table)
        .where(and(where, beyond(table, order.column, 'after', after, forward), beyond(table, order.column, 'before', before, !forward)))
        .orderBy(sql`${order.column} ${direction}`, sql`${table.id} ${direction}`)
        .limit(limit)
      return rows as unknown as Row[]
    },
  )
  return { ...connection, totalCount: () => countRows(db, table, where) }
}

function beyond(
  table: { id: SQLiteColumn },
  column: SQLiteColumn,
  argument: string,
  cursor: string | undefined,
  greater: boolean,
): SQL | undefined {
  if (cursor === undefined) return undefined
  const [value, id] = decodeCursor(argument, cursor)
  return sql`(${column}, ${table.id}) ${sql.raw(greater ? '>' : '<')} (${value}, ${id})`
}

async function countRows(db: SchemaDatabase, table: SQLiteTable, where: SQL | undefined): Promise<number> {
  const [row] = await db.select({ rows: count() }).from(table).where(where)
  return row?.rows ?? 0
}

/** @throws PortolanError INVALID_INPUT for a page that is too long: a shorter one than asked for would pass for the end. */
export function checkPageSizes(args: DefaultConnectionArguments) {
  for (const name of ['first', 'last'] as const) {
    const size = args[name]
    if (size !== null && size !== undefined && (size < 0 || size > limits.pageSize))
      throw invalid(
        name,
        `${name} must be from 0 to ${limits.pageSize}, and was ${size}.`,
        `Ask for ${limits.pageSize} at most, and for the next page with \`after\`.`,
      )
  }
}

function encodeCursor(position: [string | number, string]): string {
  return Buffer.from(JSON.stringify(position)).toString('base64url')
}

function decodeCursor(argument: string, cursor: string): [string | number, string] {
  try {
    const position: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString())
    if (
      Array.isArray(position) &&
      position.length === 2 &&
      (typeof position[0] === 'string' || Number.isFinite(position[0])) &&
      typeof position[1] === 'string'
    )
      return position as [string | number, string]
  } catch {
    // falls to the sentence below: what can't be read is no cursor
  }
  throw invalid(
    argument,
    `${argument} is no cursor of this API.`,
    'Give a `cursor`, `startCursor` or `endCursor` that this API gave out, or leave it away.',
  )
}

function invalid(argument: string, message: string, remedy: string): PortolanError {
  return new PortolanError('INVALID_INPUT', message, { retryable: false, remedy, path: [argument] })
}
