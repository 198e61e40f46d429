import { LibsqlError } from '@libsql/client'
import { DrizzleQueryError } from 'drizzle-orm'

/** What the database says of statements that are wrong in themselves (https://www.sqlite.org/rescode.html): to send them again helps nobody. */
const ownFaults = /^SQLITE_(?:CONSTRAINT|ERROR|MISMATCH|MISUSE|RANGE|TOOBIG)/

/** Whether the database is away, full, busy or broken, so that the same may work later. */
export function isDatabaseFault(error: unknown): boolean {
  if (error instanceof LibsqlError) return !ownFaults.test(error.code)
  // Its cause says what happened: libsql's own error, or what `fetch` met on its way to the server.
  if (error instanceof DrizzleQueryError) return !(error.cause instanceof LibsqlError) || isDatabaseFault(error.cause)
  return false
}
