/** Images of the parent VMs that demo, tests and bench use, made beforehand: these run where Debian's servers are out of reach. */
import { join } from 'node:path'
import { childImage, parentImage, type ParentImageRequest } from '../src/workflows/parent-image.ts'
import type { Artifacts } from './artifacts.ts'
import { giveTo } from './ownership.ts'

export const shippedParents: Readonly<Record<'node' | 'python', Pick<ParentImageRequest, 'runtime' | 'packages'>>> = {
  node: { runtime: 'NODE', packages: ['node-lodash'] },
  python: { runtime: 'PYTHON', packages: ['python3-numpy'] },
}

/** Makes those that aren't there. @param tests also what children boot from where nothing forks. */
export async function ensureParentImages(
  { cacheDirectory, parentBase }: Artifacts,
  { signal, owner, tests }: { signal?: AbortSignal | undefined; owner?: string | undefined; tests: boolean },
): Promise<void> {
  for (const recipe of Object.values(shippedParents)) {
    const request = { ...recipe, base: parentBase, cacheDirectory, ...(signal ? { signal } : {}) }
    await parentImage(request)
    if (tests) await childImage(request)
  }
  for (const made of ['debian-packages', 'parent-images']) giveTo(owner, join(cacheDirectory, made))
}
