/**
 * Where the audit trail ended when this control plane last wrote to it, in a file beside the database: a database that was cut off or put back to an older state is found out by
 * it. It never moves on from an entry that the trail has lost, so what it witnessed stays until somebody has looked.
 */
import { eq } from 'drizzle-orm'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Database } from '../database/client.ts'
import { auditEntries } from '../database/tables/audit.ts'
import type { AuditPosition } from './audit-chain.ts'

export interface AuditWitness {
  /** Never throws: what it could not note is told to `onProblem`. */
  note(position: AuditPosition): Promise<void>
}

export function createAuditWitness(dataDirectory: string, database: Database, onProblem: (message: string) => void): AuditWitness {
  const path = auditWitnessPath(dataDirectory)
  let last: Promise<void> = Promise.resolve()

  async function replace(position: AuditPosition): Promise<void> {
    const noted = await readAuditWitness(dataDirectory)
    if (noted && noted.sequence >= position.sequence && (await trailHolds(database, noted))) return
    if (noted && !(await trailHolds(database, noted)))
      return onProblem(
        `The audit trail no longer holds entry ${noted.sequence}, which ${path} witnesses: run \`npm run audit -- verify\`, and remove that file once you know why.`,
      )
    await writeFile(`${path}.new`, JSON.stringify(position), { mode: 0o600 })
    await rename(`${path}.new`, path)
  }

  return {
    note(position) {
      last = last
        .then(() => replace(position))
        .catch((error: unknown) => onProblem(`The end of the audit trail could not be noted: ${String(error)}`))
      return last
    },
  }
}

export function auditWitnessPath(dataDirectory: string): string {
  return join(dataDirectory, 'audit-head.json')
}

/** Null where there is none yet. @throws Error where the file can't be read or is no witness. */
export async function readAuditWitness(dataDirectory: string): Promise<AuditPosition | null> {
  const path = auditWitnessPath(dataDirectory)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
  const { sequence, hash } = JSON.parse(text) as Partial<AuditPosition>
  if (typeof sequence !== 'number' || typeof hash !== 'string') throw new TypeError(`${path} is not what Portolan wrote there.`)
  return { sequence, hash }
}

export async function trailHolds(database: Pick<Database, 'select'>, { sequence, hash }: AuditPosition): Promise<boolean> {
  const [row] = await database.select({ hash: auditEntries.hash }).from(auditEntries).where(eq(auditEntries.sequence, sequence))
  return row?.hash === hash
}
