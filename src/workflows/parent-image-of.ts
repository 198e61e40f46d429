import { stat } from 'node:fs/promises'
import { PortolanError } from '../domain/errors.ts'
import type { ParentRecipe } from '../domain/parent-vm.ts'
import { childImage, commandLine, parentImage, type ChildImage, type ParentImage } from './parent-image.ts'

/** What the set-up made for parent VMs. */
export interface ParentArtifacts {
  parentBase: { kernelPath: string; initrdPath: string }
  cacheDirectory: string
}

/** The image that a recipe asks for: the one that it names, or one made of its packages. Throws what parentImage does, and NOT_FOUND. */
export function parentImageOf({ parentBase, cacheDirectory }: ParentArtifacts) {
  return async ({ imagePath, runtime, packages }: ParentRecipe, signal: AbortSignal): Promise<ParentImage> => {
    if (imagePath === null) return parentImage({ runtime, packages, base: parentBase, cacheDirectory, signal })
    const file = await stat(imagePath).catch(() => null)
    if (!file?.isFile())
      throw new PortolanError(
        'NOT_FOUND',
        `The parent VM's image ${imagePath} is not a file on the control plane's machine. Nothing was built.`,
        {
          retryable: false,
          remedy: 'Put the image there, or name another, then register the parent VM again.',
        },
      )
    return { ...parentBase, commandLine, diskPath: imagePath }
  }
}

/** What children boot from where nothing forks. Throws what parentImage does, and UNSUPPORTED for a disk image of the user's. */
export function childImageOf({ parentBase, cacheDirectory }: ParentArtifacts) {
  return async ({ imagePath, runtime, packages }: ParentRecipe, signal: AbortSignal): Promise<ChildImage> => {
    if (imagePath === null) return childImage({ runtime, packages, base: parentBase, cacheDirectory, signal })
    throw new PortolanError('UNSUPPORTED', 'A parent VM that is made of a disk image needs a cloud that forks.', {
      retryable: false,
      remedy: 'Make it of packages, or use a cloud whose plugin has the capability `fork`.',
    })
  }
}
