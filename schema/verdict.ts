import { encodeGlobalID } from '@pothos/plugin-relay'
import { and, desc, eq } from 'drizzle-orm'
import { attestations } from '../src/database/tables/attestation.ts'
import { migrations } from '../src/database/tables/migration.ts'
import { reconciliations } from '../src/database/tables/reconciliation.ts'
import type { LocatedMachine } from '../src/workflows/verdict-machines.ts'
import type { MachineVerdict } from '../src/workflows/verdict-reader.ts'
import { Attestation } from './attest.ts'
import { builder } from './builder.ts'
import { Cloud } from './cloud.ts'
import { rowIdOf } from './global-id.ts'
import { invalidInput } from './invalid-input.ts'
import { Migration } from './migration.ts'
import { Reconciliation } from './reconcile.ts'
import { EvidenceFound, EvidenceKind, EvidenceSite, SafeActionEnum, VerdictEnum, VerdictRowEnum } from './verdict-enums.ts'
import { VirtualMachine } from './virtual-machine.ts'

const EvidenceType = builder.objectRef<MachineVerdict['evidence'][number]>('VerdictEvidence').implement({
  description: 'One thing that was looked for at a site, found or not.',
  fields: (t) => ({
    site: t.expose('site', { type: EvidenceSite, description: 'Where it was looked for.' }),
    cloud: t.field({
      type: Cloud,
      nullable: true,
      description: "The site's cloud; null where no connected cloud is known to be it.",
      resolve: ({ cloudId }) => cloudId,
    }),
    kind: t.expose('kind', { type: EvidenceKind, description: 'What was looked for.' }),
    key: t.exposeString('key', { description: "The record's key, the machine's id at its provider, or the fence's id." }),
    found: t.expose('found', { type: EvidenceFound, description: 'Whether it was there.' }),
    message: t.exposeString('message', { description: 'What was read: one sentence or two.' }),
    readAt: t.expose('readAt', { type: 'DateTime', description: 'When the site was asked.' }),
  }),
})

const MigrationVerdict = builder.objectRef<MachineVerdict>('MigrationVerdict')
MigrationVerdict.implement({
  description: 'Whether one virtual machine has been moved, by what was read for this answer; nothing was changed.',
  fields: (t) => ({
    migrationId: t.id({
      description:
        'Names the migration that decides, also where this control plane does not have it (its database was lost, or it is of another one).',
      resolve: ({ migrationId }) => encodeGlobalID('Migration', migrationId),
    }),
    migration: t.field({
      type: Migration,
      nullable: true,
      description: 'That migration, where this control plane has it; else null.',
      resolve: async ({ migrationId }, _, { db }) => (await db.select().from(migrations).where(eq(migrations.id, migrationId)))[0] ?? null,
    }),
    attempt: t.exposeInt('attempt', { description: 'The attempt that decides.' }),
    uniqueId: t.exposeString('uniqueId', {
      nullable: true,
      description: "The machine's immutable unique id, the same at both sites; null where it could not be read.",
    }),
    name: t.exposeString('name', {
      nullable: true,
      description: 'Its name, for people; nothing goes by it. Null where it could not be read.',
    }),
    verdict: t.field({ type: VerdictEnum, description: 'Whether it has been moved.', resolve: ({ standing }) => standing.verdict }),
    row: t.field({ type: VerdictRowEnum, description: 'The row of the table that decided.', resolve: ({ standing }) => standing.row }),
    message: t.exposeString('message', { description: 'The verdict and why: one sentence or two.' }),
    evidence: t.field({ type: [EvidenceType], description: 'What was read at each site.', resolve: ({ evidence }) => evidence }),
    safeActions: t.field({
      type: [SafeActionEnum],
      description: 'What may be done now, in the order in which it is to be done.',
      resolve: ({ safeActions }) => safeActions,
    }),
    source: t.field({
      type: VirtualMachine,
      nullable: true,
      description: 'The source, as its cloud was last read; null where it was not found.',
      resolve: ({ source }) => rowOf(source),
    }),
    destination: t.field({
      type: VirtualMachine,
      nullable: true,
      description: 'The machine at the destination, as its cloud was last read; null where it was not found.',
      resolve: ({ destination }) => rowOf(destination),
    }),
    sourceCloud: t.field({
      type: Cloud,
      nullable: true,
      description: 'Where the source is; null where no connected cloud is known to have it.',
      resolve: ({ source }) => source.cloudId,
    }),
    destinationCloud: t.field({
      type: Cloud,
      nullable: true,
      description: 'Whose records decided; null where it is not known which cloud that is.',
      resolve: ({ destination }) => destination.cloudId || null,
    }),
    reconciliation: t.field({
      type: Reconciliation,
      nullable: true,
      description: 'What `reconcileMigrations` made of it so far; null where it was not asked for.',
      resolve: async ({ migrationId, attempt, uniqueId }, _, { db }) => {
        if (uniqueId === null) return null
        const [row] = await db
          .select()
          .from(reconciliations)
          .where(
            and(eq(reconciliations.migrationId, migrationId), eq(reconciliations.attempt, attempt), eq(reconciliations.uniqueId, uniqueId)),
          )
          .orderBy(desc(reconciliations.updatedAt))
          .limit(1)
        return row ?? null
      },
    }),
    attestations: t.field({
      type: [Attestation],
      description: 'Who attested that the source is dead, and with what words.',
      resolve: ({ migrationId, attempt, uniqueId }, _, { db }) =>
        db
          .select()
          .from(attestations)
          .where(
            and(eq(attestations.migrationId, migrationId), eq(attestations.attempt, attempt), eq(attestations.uniqueId, uniqueId ?? '')),
          ),
    }),
    readAt: t.expose('readAt', { type: 'DateTime', description: "When the destination's records were read." }),
  }),
})

builder.queryField('migrationVerdicts', (t) =>
  t.field({
    type: [MigrationVerdict],
    authScopes: { viewer: true },
    description:
      "Whether each virtual machine has been moved, decided from the records at its destination's site, with the evidence and with what is safe to do now. Asks the clouds while you wait, at most 10 s for each call, and changes nothing. It needs neither the source's site nor this control plane's database: after a loss, connect the clouds and ask by `cloudId`. Give exactly one argument.",
    args: {
      migrationIds: t.arg.idList({ description: "Migrations' `id`s, 1 to 100, also of migrations that this control plane does not have." }),
      cloudId: t.arg.id({
        description: 'A cloud: all machines that its records tell of, and those that other sites have records of and whose source it is.',
      }),
    },
    resolve: (_, args, { operations, actor }) => operations.migrationVerdicts(actor, toVerdictQuestion(args, [])),
  }),
)

/** @throws PortolanError INVALID_INPUT unless exactly one of the two is given. `path` says where they stood. */
export function toVerdictQuestion(
  args: { migrationIds?: readonly string[] | null | undefined; cloudId?: string | null | undefined },
  path: readonly string[],
): { migrationIds: string[] } | { cloudId: string } {
  const { migrationIds, cloudId } = args
  if ((migrationIds == null) === (cloudId == null))
    throw invalidInput('and migrationIds: exactly one of them must be given', [...path, 'cloudId'])
  if (cloudId != null) return { cloudId: rowIdOf('Cloud', cloudId, [...path, 'cloudId']) }
  const ids = migrationIds ?? []
  if (ids.length < 1 || ids.length > 100)
    throw invalidInput(`must name 1 to 100 migrations, and names ${ids.length}`, [...path, 'migrationIds'])
  return { migrationIds: [...new Set(ids.map((id, index) => rowIdOf('Migration', id, [...path, 'migrationIds', `${index}`])))] }
}

function rowOf({ cloudId, vm }: LocatedMachine): string | null {
  return cloudId && vm ? `${cloudId}/${vm.id}` : null
}
