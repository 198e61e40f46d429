/** Images of the parent VMs that demo, tests and bench use, made beforehand: these run where Debian's servers are out of reach. */
import { join } from 'node:path'
import { parentImage, type ParentImageRequest } from '../src/workflows/parent-image.ts'
import type { Artifacts } from './artifacts.ts'
import { giveTo } from './ownership.ts'

export const shippedParents: Readonly<Record<'node' | 'python', Pick<ParentImageRequest, 'runtime' | 'packages'>>> = {
  node: { runtime: 'NODE', packages: ['node-lodash'] },
  python: { runtime: 'PYTHON', packages: ['python3-numpy'] },
}

/** Makes those that aren't there. */
export async function ensureParentImages({ cacheDirectory, parentBase }: Artifacts, signal?: AbortSignal, owner?: string): Promise<void> {
  for (const recipe of Object.values(shippedParents))
    await parentImage({ ...recipe, base: parentBase, cacheDirectory, ...(signal ? { signal } : {}) })
  for (const made of ['debian-packages', 'parent-images']) giveTo(owner, join(cacheDirectory, made))
}
