/** The capability `fork`, where this machine has what it takes: absent elsewhere, and why is logged. */
import { createHash } from 'node:crypto'
import { execFile } from 'node:child_process'
import { access } from 'node:fs/promises'
import { promisify } from 'node:util'
import type { ForkCapability } from '../../../src/plugin-sdk/index.ts'
import { userNetwork } from '../machine.ts'
import type { Site } from '../site.ts'
import { canGiveAccounts } from './child-account.ts'
import { openCgroups } from './child-cgroup.ts'
import { deleteChild, forkChild, listChildren, resumeChild } from './children.ts'
import { forkCapacity } from './fork-capacity.ts'
import { type ForkSite, makeParentsDirectory } from './fork-site.ts'
import { oneAtATime } from './one-at-a-time.ts'
import { hashParent } from './parent-hashes.ts'
import { bootParent, deleteParent, describeParents, saveParent, sweepParents } from './parents.ts'

const run = promisify(execFile)

export async function forking(site: Site): Promise<ForkCapability | undefined> {
  const missing = await whatIsMissing()
  if (missing !== null) {
    site.log('info', 'Children can not be forked here.', { because: missing })
    return undefined
  }
  const parents = await makeParentsDirectory(site.options.stateDirectory)
  const cgroups = await openCgroups(createHash('sha256').update(parents).digest('hex').slice(0, 8))
  const forkSite: ForkSite = { ...site, parents, accounts: await canGiveAccounts(), cgroups }
  await sweepParents(forkSite)
  const changes = oneAtATime()
  return {
    isolation: { unprivilegedUser: forkSite.accounts, sandbox: true, ...(cgroups && { cgroup: cgroups.version }) },
    networkIds: [userNetwork.id],
    bootParent: bootParent(forkSite),
    saveParent: saveParent(forkSite),
    describeParents: describeParents(forkSite),
    hashParent: hashParent(forkSite),
    deleteParent: deleteParent(forkSite),
    capacity: forkCapacity(forkSite),
    forkChild: forkChild(forkSite, changes),
    resumeChild: resumeChild(forkSite, changes),
    listChildren: listChildren(forkSite),
    deleteChild: deleteChild(forkSite, changes),
  }
}

async function whatIsMissing(): Promise<string | null> {
  const library = await access('/lib64/ld-linux-x86-64.so.2').then(
    () => true,
    () => false,
  )
  if (process.arch !== 'x64' || !library) return 'this is no x86-64 with the C library of GNU'
  for (const program of ['setpriv', 'timeout'])
    try {
      await run(program, ['--version'], { timeout: 20_000 })
    } catch {
      return `the program ${program} does not run`
    }
  return null
}
