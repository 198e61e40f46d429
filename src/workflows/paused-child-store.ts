/** What the database knows of children that stand ready: how many are wished, and how many were counted. Which there are, only the clouds know. */
import { and, eq, gt, inArray } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { jobChildren } from '../database/tables/job.ts'
import { parentVmCopies, parentVms } from '../database/tables/parent-vm.ts'
import type { ChildLimits } from '../plugin-sdk/index.ts'
import { usualChildLimits } from './child-limits.ts'
import { copyId } from './parent-vm-runner.ts'

export interface CopyKey {
  cloudId: string
  /** As the cloud knows the parent. */
  parentId: string
}

export interface Wish extends CopyKey {
  count: number
  limits: ChildLimits
}

export interface PausedChildStore {
  /** For the copies that are ready, of the parents that this engine built. */
  wishes(engineId: string): Promise<Wish[]>
  /** All of these parents, those of former generations included. */
  copies(engineId: string): Promise<CopyKey[]>
  /** Those of the children's ids that are no job's, nor were. */
  unclaimed(childIds: readonly string[]): Promise<Set<string>>
  writeCounts(engineId: string, cloudId: string, count: (copy: CopyKey) => number): Promise<void>
}

export function createPausedChildStore(database: Database): PausedChildStore {
  async function copies(engineId: string) {
    const rows = await database
      .select({ copy: parentVmCopies })
      .from(parentVmCopies)
      .innerJoin(parentVms, eq(parentVmCopies.parentVmId, parentVms.id))
      .where(eq(parentVms.engineId, engineId))
    return rows.map(({ copy }) => ({ ...copy, parentId: copyId({ id: copy.parentVmId, generation: copy.generation }) }))
  }

  return {
    async wishes(engineId) {
      const rows = await database
        .select({ parent: parentVms, cloudId: parentVmCopies.cloudId })
        .from(parentVms)
        .innerJoin(parentVmCopies, and(eq(parentVmCopies.parentVmId, parentVms.id), eq(parentVmCopies.generation, parentVms.generation)))
        .where(
          and(
            eq(parentVms.engineId, engineId),
            eq(parentVms.state, 'READY'),
            eq(parentVmCopies.state, 'READY'),
            gt(parentVms.pausedChildren, 0),
          ),
        )
      return rows.map(({ parent, cloudId }) => ({
        cloudId,
        parentId: copyId(parent),
        count: parent.pausedChildren,
        limits: usualChildLimits(parent.recipe),
      }))
    },
    copies,
    async unclaimed(childIds) {
      if (childIds.length === 0) return new Set()
      const claimed = await database
        .select({ id: jobChildren.id })
        .from(jobChildren)
        .where(inArray(jobChildren.id, [...childIds]))
      return new Set(childIds).difference(new Set(claimed.map(({ id }) => id)))
    },
    async writeCounts(engineId, cloudId, count) {
      for (const copy of await copies(engineId)) {
        const pausedChildren = count(copy)
        if (copy.cloudId !== cloudId || copy.pausedChildren === pausedChildren) continue
        const { parentVmId, generation } = copy
        const row = and(
          eq(parentVmCopies.parentVmId, parentVmId),
          eq(parentVmCopies.generation, generation),
          eq(parentVmCopies.cloudId, cloudId),
        )
        await database.write(
          (orm) => [orm.update(parentVmCopies).set({ pausedChildren }).where(row)],
          [{ topic: 'PARENT_VM', subject: parentVmId }],
        )
      }
    },
  }
}
