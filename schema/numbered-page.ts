import { resolveCursorConnection, type DefaultConnectionArguments } from '@pothos/plugin-relay'
import { and, asc, desc, gt, lt, type SQL } from 'drizzle-orm'
import type { SQLiteColumn } from 'drizzle-orm/sqlite-core'
import { checkPageSizes } from './connection.ts'
import { invalidInput } from './invalid-input.ts'
import { limits } from './limits.ts'

/** What a reading needs for one page of rows that have numbers. */
interface NumberedRange {
  where: SQL | undefined
  order: SQL
  limit: number
}

/**
 * A page of rows that are numbered within their owner, such as tasks of a job: by keyset, so that the last page costs what the first one does.
 * @throws PortolanError INVALID_INPUT for a page size or cursor that is none.
 */
export async function numberedPage<Row>(request: {
  args: DefaultConnectionArguments
  column: SQLiteColumn
  numberOf: (row: Row) => number
  read: (range: NumberedRange) => Promise<Row[]>
  totalCount: () => Promise<number>
}) {
  const { args, column, numberOf, read, totalCount } = request
  checkPageSizes(args)
  const connection = await resolveCursorConnection<Promise<Row[]>>(
    { args, defaultSize: limits.defaultPageSize, maxSize: limits.pageSize, toCursor: (row: Row) => `${numberOf(row)}` },
    ({ before, after, limit, inverted }) =>
      read({
        where: and(
          after === undefined ? undefined : gt(column, numberIn('after', after)),
          before === undefined ? undefined : lt(column, numberIn('before', before)),
        ),
        order: inverted ? desc(column) : asc(column),
        limit,
      }),
  )
  return { ...connection, totalCount }
}

function numberIn(argument: string, cursor: string): number {
  if (/^\d{1,15}$/.test(cursor)) return Number(cursor)
  throw invalidInput('must be a `cursor`, `startCursor` or `endCursor` that this API gave out', [argument])
}
