import { randomUUID } from 'node:crypto'
import type { Database } from '../../../src/database/client.ts'
import { parentVmCopies, parentVms } from '../../../src/database/tables/parent-vm.ts'

/** A parent VM that is about to be built, or one that is ready with a copy at the cloud. Gives its id. */
export async function storeParent(
  database: Database,
  state: 'REGISTERED' | 'READY',
  values: Partial<typeof parentVms.$inferInsert> = {},
  cloudId = 'east',
): Promise<string> {
  const id = randomUUID()
  const now = new Date()
  const privileges = { network: false, cpuShare: 1, diskBytes: 1e9, maxLifetimeMs: 3_600_000 }
  const copy = { parentVmId: id, generation: 1, cloudId, state: 'READY' as const, ramSha256: 'ram', diskSha256: 'disk' }
  await database.write((orm) => [
    orm.insert(parentVms).values({
      id,
      name: `parent ${id}`,
      recipe: { runtime: 'NODE', packages: ['nodejs'], imagePath: null, warmUp: null, memoryBytes: 2 ** 28, cpuCount: 1, privileges },
      recipeDigest: 'digest',
      offers: state === 'READY' ? { runtime: 'NODE', runtimeVersion: '18.20.4', libraries: {} } : null,
      state,
      engineId: 'engine',
      createdAt: now,
      updatedAt: now,
      ...values,
    }),
    ...(state === 'READY' ? [orm.insert(parentVmCopies).values(copy)] : []),
  ])
  return id
}
