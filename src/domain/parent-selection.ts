/**
 * Which parent a job is forked from. Every requirement is a filter, in the order of `parentRequirements`; among those that meet them all, the first by: children that are forked and not booted, room for all the
 * children that were asked for, room within one cloud (no traffic between clouds), least memory a child, longest registered, lowest id. The same facts give the same answer.
 */
import type { ChildOrigin, JobPrivileges, JobRequirements } from './job.ts'
import type { ParentOffers, ParentRecipe } from './parent-vm.ts'

export const parentRequirements = ['PARENT', 'RUNTIME', 'RUNTIME_VERSION', 'LIBRARY', 'PRIVILEGE', 'LOCALITY', 'CAPACITY'] as const
export type ParentRequirement = (typeof parentRequirements)[number]

/** A parent that is READY. */
export interface ParentCandidate {
  parentVmId: string
  name: string
  recipe: ParentRecipe
  offers: ParentOffers
  createdAt: Date
  copies: readonly CandidateCopy[]
}

export interface CandidateCopy {
  cloudId: string
  /** How children come to be there. */
  childOrigin: ChildOrigin
  /** How many more children fit there now. */
  freeChildren: number
}

export interface SelectionRequirements extends JobRequirements {
  privileges: JobPrivileges
  /** Null: as many as fit. */
  children: number | null
  /** Null: anywhere. */
  cloudIds: readonly string[] | null
}

export type ParentSelection =
  | { parentVmId: string; /** A sentence. */ reason: string }
  | { unmet: { requirement: ParentRequirement; message: string } }

interface Filter {
  requirement: ParentRequirement
  /** What is asked, to go after "offers" in a sentence. */
  asked: string
  meets: (candidate: ParentCandidate) => boolean
}

export function selectParent(candidates: readonly ParentCandidate[], requirements: SelectionRequirements): ParentSelection {
  let left = candidates.toSorted((a, b) => (a.parentVmId < b.parentVmId ? -1 : 1))
  if (left.length === 0) return { unmet: { requirement: 'PARENT', message: 'No parent VM is ready. Register one, or wait until it is.' } }
  const filters = filtersOf(requirements)
  const met: string[] = []
  for (const { requirement, asked, meets } of filters) {
    const next = left.filter(meets)
    if (next.length === 0) return { unmet: { requirement, message: unmetSentence({ asked, met, left, anywhere: candidates.some(meets) }) } }
    met.push(asked)
    left = next
  }
  const wanted = requirements.children ?? Number.POSITIVE_INFINITY
  const ranked = left.map((candidate) => ({ candidate, ...roomOf(candidate, requirements, wanted) }))
  ranked.sort(
    (a, b) =>
      Number(a.booted) - Number(b.booted) || b.room - a.room || b.roomInOneCloud - a.roomInOneCloud || byTheRest(a.candidate, b.candidate),
  )
  const [best] = ranked
  if (!best) throw new Error('A parent that met every requirement is missing.')
  return { parentVmId: best.candidate.parentVmId, reason: reasonFor(best, ranked.length, candidates.length) }
}

function filtersOf(requirements: SelectionRequirements): Filter[] {
  const { parentVmId, runtime, runtimeVersion, libraries, privileges, cloudIds } = requirements
  const filters: Filter[] = []
  const add = (requirement: ParentRequirement, asked: string, meets: Filter['meets']) => filters.push({ requirement, asked, meets })
  if (parentVmId !== null) add('PARENT', 'the id that was asked for', (candidate) => candidate.parentVmId === parentVmId)
  add('RUNTIME', `the runtime ${runtime}`, ({ offers }) => offers.runtime === runtime)
  if (runtimeVersion !== null)
    add('RUNTIME_VERSION', `version ${runtimeVersion} of its runtime`, ({ offers }) => beginsWith(offers.runtimeVersion, runtimeVersion))
  for (const { name, version } of libraries)
    add('LIBRARY', `the library ${name}${version === null ? '' : ` ${version}`}`, ({ offers }) => {
      const offered = Object.hasOwn(offers.libraries, name) ? offers.libraries[name] : undefined
      return offered !== undefined && (version === null || beginsWith(offered, version))
    })
  const { networkId, cpuShare, memoryBytes, diskBytes, maxLifetimeMs } = privileges
  if (networkId !== null) add('PRIVILEGE', 'children with a network', ({ recipe }) => recipe.privileges.network)
  add('PRIVILEGE', `children with ${cpuShare} of a core`, ({ recipe }) => recipe.privileges.cpuShare >= cpuShare)
  add('PRIVILEGE', `children that may write ${diskBytes} bytes`, ({ recipe }) => recipe.privileges.diskBytes >= diskBytes)
  add('PRIVILEGE', `children that may live ${maxLifetimeMs} ms`, ({ recipe }) => recipe.privileges.maxLifetimeMs >= maxLifetimeMs)
  if (memoryBytes !== null)
    add('PRIVILEGE', `children that get by with ${memoryBytes} bytes`, ({ recipe }) => recipe.memoryBytes <= memoryBytes)
  add('LOCALITY', cloudIds === null ? 'a copy at any cloud' : 'a copy at the clouds that were asked for', ({ copies }) =>
    copies.some((copy) => isWithin(copy, cloudIds)),
  )
  add('CAPACITY', 'room for a child now', ({ copies }) => copies.some((copy) => isWithin(copy, cloudIds) && copy.freeChildren >= 1))
  return filters
}

/** `18` and `18.20` begin `18.20.4`; `1` does not. */
function beginsWith(version: string, asked: string): boolean {
  return version === asked || version.startsWith(`${asked}.`)
}

function isWithin({ cloudId }: CandidateCopy, cloudIds: readonly string[] | null): boolean {
  return cloudIds === null || cloudIds.includes(cloudId)
}

function roomOf({ copies }: ParentCandidate, { cloudIds }: SelectionRequirements, wanted: number) {
  const within = copies.filter((copy) => isWithin(copy, cloudIds))
  const forked = within.filter(({ childOrigin }) => childOrigin === 'FORKED')
  // Whoever names clouds has children at all of them.
  const used = cloudIds === null && forked.length > 0 ? forked : within
  const free = used.map(({ freeChildren }) => freeChildren)
  const room = free.reduce((sum, children) => sum + children, 0)
  return { room: Math.min(room, wanted), roomInOneCloud: Math.min(Math.max(...free), wanted), booted: forked.length === 0 }
}

function byTheRest(a: ParentCandidate, b: ParentCandidate): number {
  return (
    a.recipe.memoryBytes - b.recipe.memoryBytes || a.createdAt.getTime() - b.createdAt.getTime() || (a.parentVmId < b.parentVmId ? -1 : 1)
  )
}

function unmetSentence(filter: { asked: string; met: readonly string[]; left: readonly ParentCandidate[]; anywhere: boolean }): string {
  const { asked, met, left, anywhere } = filter
  if (!anywhere) return `No parent VM that is ready offers ${asked}.`
  const names = left.map(({ name }) => JSON.stringify(name))
  const shown = names.length > 3 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ')
  return `No parent VM offers ${asked} together with ${met.join(' and ')}: ${shown} ${names.length === 1 ? 'does' : 'do'} not.`
}

function reasonFor(
  best: { candidate: ParentCandidate; room: number; roomInOneCloud: number; booted: boolean },
  fitting: number,
  all: number,
): string {
  const { candidate, room, roomInOneCloud } = best
  const { runtime, runtimeVersion } = candidate.offers
  const which =
    fitting === 1 ? `the only one of ${all} that meets every requirement` : `the first of ${fitting} of ${all} that meet every requirement`
  const where = room > roomInOneCloud ? `${roomInOneCloud} of them within one cloud` : 'all within one cloud'
  return `${JSON.stringify(candidate.name)} (${runtime} ${runtimeVersion}) is ${which}: room for ${room} of the children now, ${where}, ${candidate.recipe.memoryBytes} bytes of memory each.${best.booted ? ' They are booted, since no cloud that forks has it.' : ''}`
}
