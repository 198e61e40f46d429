import { createHash } from 'node:crypto'

/**
 * Of a fault matrix: all of it under `npm run test:full`, else the one part that this run's seed chooses (test/run.ts sets it; it is the day, and one part comes after the
 * other, day by day). A failing part is run again with the seed that the run printed: `PORTOLAN_TEST_SEED=<seed> npm test -- <file>`.
 */
export function rotating<Part>(matrix: readonly Part[]): readonly Part[] {
  if (process.env['PORTOLAN_TEST_FULL']) return matrix
  const seed = process.env['PORTOLAN_TEST_SEED'] ?? ''
  const chosen = (dayOf(seed) ?? createHash('sha256').update(seed).digest().readUInt32BE()) % matrix.length
  return matrix.slice(chosen, chosen + 1)
}

/** Since 1970; null for a seed that is no day. */
function dayOf(seed: string): number | null {
  const ms = /^\d{4}-\d{2}-\d{2}$/.test(seed) ? Date.parse(seed) : Number.NaN
  return ms >= 0 ? ms / 86_400_000 : null
}
