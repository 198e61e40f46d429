/**
 * The story of a migration, one list a version. A list that was released is frozen: a migration goes on, over any upgrade of the program, with the list that it began
 * with. A change of order or names is a new version; the old one stays until no migration runs on it.
 */
import { PortolanError } from '../domain/errors.ts'
import { admission } from './phases/admission.ts'
import { adoptDestination } from './phases/adopt-destination.ts'
import { armFence } from './phases/arm-fence.ts'
import { bootDestination } from './phases/boot-destination.ts'
import { cleanUp } from './phases/clean-up.ts'
import { commit } from './phases/commit.ts'
import { compareRoots } from './phases/compare-roots.ts'
import { connectAgents } from './phases/connect-agents.ts'
import { discardCopy } from './phases/discard-copy.ts'
import { expose } from './phases/expose.ts'
import { fenceSource } from './phases/fence-source.ts'
import { fixUpGuest } from './phases/fix-up-guest.ts'
import { freeze } from './phases/freeze.ts'
import { healthCheck } from './phases/health-check.ts'
import { installAgents } from './phases/install-agents.ts'
import { instantiateDestination } from './phases/instantiate-destination.ts'
import { preFlight } from './phases/pre-flight.ts'
import { readyToCutOver } from './phases/ready-to-cut-over.ts'
import { recordCarriedBack } from './phases/record-carried-back.ts'
import { recordRollback } from './phases/record-rollback.ts'
import { releaseRetainedSource } from './phases/release-retained-source.ts'
import { retireSource } from './phases/retire-source.ts'
import { sealCopy } from './phases/seal-copy.ts'
import { sendRemainder } from './phases/send-remainder.ts'
import { startSource } from './phases/start-source.ts'
import { stopDestination } from './phases/stop-destination.ts'
import { suspendSource } from './phases/suspend-source.ts'
import { sync } from './phases/sync.ts'
import { trackChanges } from './phases/track-changes.ts'
import type { Phase } from './phase.ts'

const version1: readonly Phase[] = [
  preFlight,
  instantiateDestination,
  installAgents,
  connectAgents,
  trackChanges,
  sync,
  readyToCutOver,
  freeze,
  sendRemainder,
  compareRoots,
  suspendSource,
  sealCopy,
  fixUpGuest,
  bootDestination,
  healthCheck,
  commit,
  expose,
  retireSource,
  cleanUp,
]

/** Since version 2 a migration waits for its turn, and the source is fenced: armed before the freeze, closed before the commit. */
const version2: readonly Phase[] = [
  preFlight,
  admission,
  instantiateDestination,
  installAgents,
  connectAgents,
  trackChanges,
  sync,
  readyToCutOver,
  armFence,
  freeze,
  sendRemainder,
  compareRoots,
  suspendSource,
  sealCopy,
  fixUpGuest,
  bootDestination,
  healthCheck,
  fenceSource,
  commit,
  expose,
  retireSource,
  cleanUp,
]

/** Back to the source after a completed migration, while the source is kept. */
const rollback1: readonly Phase[] = [stopDestination, recordRollback, releaseRetainedSource, startSource]

/** What a migration that has ended undone left at the destination goes. */
const discard1: readonly Phase[] = [discardCopy]

/** A rollback that carries writes back: a migration to a machine that is there already, which ends with the record that the one before it is rolled back. */
const carryBack1: readonly Phase[] = version2.flatMap((phase) => {
  if (phase === instantiateDestination) return [adoptDestination]
  return phase === retireSource ? [retireSource, recordCarriedBack] : [phase]
})

/** Every list that some migration may still be on, by version. */
export type PhaseLists = Readonly<Record<number, readonly Phase[]>>

export const phaseLists: PhaseLists = { 1: version1, 2: version2, 1001: rollback1, 2001: discard1, 3001: carryBack1 }

/** Lists that begin with a migration that has ended are counted from here: rollbacks, from 2000 on discards, from 3000 on migrations that carry its writes back. */
const firstAfterEnd = 1000

/** With which a rollback begins. */
export const newestRollbackVersion = 1001

/** With which a discard begins. */
export const newestDiscardVersion = 2001

/** With which a rollback that carries writes back begins, and each retry of it. */
export const newestCarryBackVersion = 3001

function beginsAfterEnd(version: number): boolean {
  return version >= firstAfterEnd
}

export function newestVersion(lists: PhaseLists): number {
  return Math.max(
    ...Object.keys(lists)
      .map(Number)
      .filter((version) => !beginsAfterEnd(version)),
  )
}

export function phaseList(lists: PhaseLists, version: number): readonly Phase[] {
  const list = lists[version]
  if (list) return list
  throw new PortolanError('UNSUPPORTED', `This program has no phase list ${version}; the migration waits as it is.`, {
    retryable: true,
    remedy: 'Start the version of Portolan that began it, or a newer one that still has the list.',
  })
}
