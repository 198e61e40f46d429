import { and, count, eq, inArray } from 'drizzle-orm'
import { jobChildren, jobs } from '../src/database/tables/job.ts'
import { parentVmCopies, parentVms } from '../src/database/tables/parent-vm.ts'
import type { CopyState, ParentOffers, ParentPrivileges, ParentRuntime, ParentState } from '../src/domain/parent-vm.ts'
import { builder } from './builder.ts'
import { ChildOriginEnum } from './child-origin.ts'
import { Cloud } from './cloud.ts'
import { describedEnum } from './described-enum.ts'
import { limits } from './limits.ts'
import { rowNode } from './row-node.ts'

export const ParentVmStateEnum = describedEnum<ParentState>('ParentVmState', 'The life of a parent VM.', {
  REGISTERED: 'It is about to be built.',
  BUILDING: 'Its disk is made, it boots, warms up, and is saved.',
  READY: 'Jobs can have children of it.',
  FAILED: 'It could not be built; `problem` says why. Register it again to try once more.',
  DELETING: 'Its files are being deleted.',
  DELETED: 'Nothing of it is left.',
})

const CopyStateEnum = describedEnum<CopyState>('ParentVmCopyState', 'How the copy of a parent VM at a cloud stands.', {
  BUILDING: 'It is being made.',
  READY: 'Jobs can have children of it there.',
  FAILED: 'It could not be made; `problem` says why.',
  DELETED: 'Its files are deleted.',
})

export const RuntimeEnum = describedEnum<ParentRuntime>('ParentVmRuntime', 'What runs the programs of jobs.', {
  NODE: 'Node.js: a program is an ES or CommonJS module that exports `async (input, context) => output`.',
  PYTHON: 'Python 3: a program defines `run(input, context)`.',
})

const Library = builder.objectRef<{ name: string; version: string }>('ParentVmLibrary').implement({
  description: 'A library that is loaded in a parent VM.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'As its runtime knows it.' }),
    version: t.exposeString('version', { description: 'As the library says itself.' }),
  }),
})

const Offers = builder.objectRef<ParentOffers>('ParentVmOffers').implement({
  description: 'What a parent VM said of itself when it was warm.',
  fields: (t) => ({
    runtime: t.expose('runtime', { type: RuntimeEnum, description: 'What runs programs.' }),
    runtimeVersion: t.exposeString('runtimeVersion', { description: 'The version of the runtime, such as `18.20.4`.' }),
    libraries: t.field({
      type: [Library],
      description: 'Libraries that it has, by name.',
      resolve: ({ libraries }) =>
        Object.entries(libraries)
          .map(([name, version]) => ({ name, version }))
          .toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    }),
  }),
})

const Privileges = builder.objectRef<ParentPrivileges>('ParentVmPrivileges').implement({
  description: 'The most that a job may ask for each child of this parent VM.',
  fields: (t) => ({
    network: t.exposeBoolean('network', { description: 'Whether children may have a network card.' }),
    cpuShare: t.exposeFloat('cpuShare', { description: 'Cores: 1 is one core.' }),
    diskBytes: t.expose('diskBytes', { type: 'ByteCount', description: 'Bytes that a child may write to its disk.' }),
    maxLifetimeMs: t.exposeInt('maxLifetimeMs', { description: 'How long a child may live, in milliseconds.' }),
  }),
})

type CopyRow = typeof parentVmCopies.$inferSelect
const Copy = builder.objectRef<CopyRow>('ParentVmCopy').implement({
  description:
    'A parent VM as it exists at one cloud: saved memory and disk, read-only, without a process; or, where children are BOOTED, nothing but the knowledge that it boots there and gets warm.',
  fields: (t) => ({
    cloud: t.field({ type: Cloud, description: 'Where it is.', resolve: ({ cloudId }) => cloudId }),
    childOrigin: t.expose('childOrigin', { type: ChildOriginEnum, description: 'How children come to be there.' }),
    generation: t.exposeInt('generation', { description: 'Which generation of the parent VM it is a copy of.' }),
    state: t.expose('state', { type: CopyStateEnum, description: 'How it stands.' }),
    memoryBytes: t.expose('memoryBytes', {
      type: 'ByteCount',
      nullable: true,
      description: 'What its memory takes on disk there, in bytes; null until it is saved, and where children are BOOTED.',
    }),
    bootMs: t.exposeInt('bootMs', {
      nullable: true,
      description: 'From the start of its boot until it was warm, in milliseconds; null where it was not booted here.',
    }),
    saveMs: t.exposeInt('saveMs', { nullable: true, description: 'How long saving it took, in milliseconds; null until it is saved.' }),
    savedAt: t.expose('savedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it was saved: since then it is unchanged. Null before.',
    }),
    ramSha256: t.exposeString('ramSha256', { nullable: true, description: 'SHA-256 of its memory file, in hex; null until it is saved.' }),
    diskSha256: t.exposeString('diskSha256', { nullable: true, description: 'SHA-256 of its disk file, in hex; null until it is saved.' }),
    pausedChildrenReady: t.exposeInt('pausedChildren', {
      description: 'How many children of it stood ready there, forked and paused, when they were last counted.',
    }),
    problem: t.exposeString('problem', { nullable: true, description: 'One sentence on what is wrong, or null.' }),
  }),
})

export const ParentVm = rowNode('ParentVm', parentVms)
ParentVm.implement({
  description:
    'A virtual machine that was booted, warmed up and saved, and from which the children of jobs are forked. It takes no processor time; it is built anew when its recipe changes.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'Unique among those that are not deleted.' }),
    state: t.expose('state', { type: ParentVmStateEnum, description: 'Its life.' }),
    problem: t.exposeString('problem', { nullable: true, description: 'One sentence on what is wrong or in its way, or null.' }),
    generation: t.exposeInt('generation', { description: 'Grows with each other recipe, from 1.' }),
    runtime: t.field({ type: RuntimeEnum, description: 'What runs programs.', resolve: ({ recipe }) => recipe.runtime }),
    packages: t.field({
      type: ['String'],
      description: 'Debian packages that it is made of, by name; empty where it is made of an image.',
      resolve: ({ recipe }) => recipe.packages,
    }),
    imagePath: t.string({
      nullable: true,
      description: "The raw disk image on the control plane's machine that it is made of; null where it is made of packages.",
      resolve: ({ recipe }) => recipe.imagePath,
    }),
    warmUp: t.string({
      nullable: true,
      complexity: limits.longValue,
      description: 'Source text that ran in it before it was saved; null for none.',
      resolve: ({ recipe }) => recipe.warmUp,
    }),
    memoryBytes: t.field({
      type: 'ByteCount',
      description: 'Memory of it and of each child, in bytes.',
      resolve: ({ recipe }) => recipe.memoryBytes,
    }),
    cpuCount: t.int({ description: 'Processors of it and of each child.', resolve: ({ recipe }) => recipe.cpuCount }),
    privileges: t.field({
      type: Privileges,
      description: 'The most that a child may be given.',
      resolve: ({ recipe }) => recipe.privileges,
    }),
    offers: t.field({
      type: Offers,
      nullable: true,
      description: 'What it said of itself; null until it was warm.',
      resolve: ({ offers }) => offers,
    }),
    copies: t.field({
      type: [Copy],
      description: 'Where it exists, by cloud; those of an earlier generation stay until their last child is gone.',
      resolve: ({ id }, _, { db }) =>
        db
          .select()
          .from(parentVmCopies)
          .where(eq(parentVmCopies.parentVmId, id))
          .orderBy(parentVmCopies.cloudId, parentVmCopies.generation),
    }),
    pausedChildren: t.exposeInt('pausedChildren', {
      description: 'How many children are to stand ready at each of its clouds that forks, paused, for jobs with the default privileges.',
    }),
    childCount: t.int({
      description: 'How many children of it there are now, in all jobs; those that stand ready are not counted.',
      resolve: async ({ id }, _, { db }) => {
        const [row] = await db
          .select({ children: count() })
          .from(jobChildren)
          .innerJoin(jobs, eq(jobs.id, jobChildren.jobId))
          .where(and(eq(jobs.parentVmId, id), inArray(jobChildren.state, ['FORKING', 'READY', 'BUSY'])))
        return row?.children ?? 0
      },
    }),
    createdAt: t.expose('createdAt', { type: 'DateTime', description: 'When it was first registered.' }),
    updatedAt: t.expose('updatedAt', { type: 'DateTime', description: 'When anything of it last changed.' }),
  }),
})
