/** What a recipe of a parent VM may be: refused before anything is stored. Whether a package exists is known when it is built. */
import { invalidJob, requireWithin } from './job-checks.ts'
import { jobLimits, privilegeDefaults } from './job-limits.ts'
import type { ParentRecipe } from './parent-vm.ts'

export const recipeLimits = {
  packages: 200,
  warmUpBytes: 1_048_576,
  memoryBytes: [67_108_864, 2 ** 38],
  cpus: 16,
} as const
const mebibyte = 2 ** 20

/** In its normal form: the same recipe is the same text. @throws PortolanError INVALID_INPUT */
export function checkedRecipe(recipe: ParentRecipe): ParentRecipe {
  const { packages, imagePath, warmUp, memoryBytes, cpuCount, privileges } = recipe
  if (packages.length > 0 === (imagePath !== null))
    throw invalidJob('must be given where there is no imagePath, and left away where there is one', ['recipe', 'packages'])
  if (packages.length > recipeLimits.packages)
    throw invalidJob(`must be ${recipeLimits.packages} at most, and were ${packages.length}`, ['recipe', 'packages'])
  for (const [place, name] of packages.entries())
    if (!/^[a-z0-9][a-z0-9+.-]{1,99}$/.test(name))
      throw invalidJob('must be the name of a Debian package: 2 to 100 small letters, digits, "+", "-" or "."', [
        'recipe',
        'packages',
        `${place}`,
      ])
  if (imagePath !== null && !/^\/[^\0\n\r]{1,4095}$/.test(imagePath)) throw invalidJob('must be an absolute path', ['recipe', 'imagePath'])
  if (warmUp !== null) {
    const bytes = Buffer.byteLength(JSON.stringify(warmUp))
    if (bytes > recipeLimits.warmUpBytes)
      throw invalidJob(`has ${bytes} bytes as a JSON string, and ${recipeLimits.warmUpBytes} are allowed`, ['recipe', 'warmUp'])
  }
  requireWithin(memoryBytes, recipeLimits.memoryBytes, ['recipe', 'memoryBytes'])
  if (memoryBytes % mebibyte !== 0) throw invalidJob(`must be a multiple of ${mebibyte}, and was ${memoryBytes}`, ['recipe', 'memoryBytes'])
  requireWithin(cpuCount, [1, recipeLimits.cpus], ['recipe', 'cpuCount'])
  requireWithin(privileges.cpuShare, [0.01, 64], ['recipe', 'privileges', 'cpuShare'])
  requireWithin(privileges.diskBytes, [0, 2 ** 40], ['recipe', 'privileges', 'diskBytes'])
  requireWithin(privileges.maxLifetimeMs, [1_000, jobLimits.lifetimeMs], ['recipe', 'privileges', 'maxLifetimeMs'])
  return { ...recipe, packages: [...new Set(packages)].toSorted(), warmUp: warmUp?.trim() ? warmUp : null }
}

/** Of a parent whose children are to stand ready: these have the default privileges. @throws PortolanError INVALID_INPUT */
export function requireDefaultPrivileges({ privileges }: ParentRecipe): void {
  for (const name of ['cpuShare', 'diskBytes', 'maxLifetimeMs'] as const)
    if (privileges[name] < privilegeDefaults[name])
      throw invalidJob(
        `allows less than ${privilegeDefaults[name]}, the default of jobs: none of them could take the children that are to stand ready (see pausedChildren)`,
        ['recipe', 'privileges', name],
      )
}
