import { jobLimits } from '../src/domain/job-limits.ts'
import { recipeLimits } from '../src/domain/parent-recipe.ts'
import { builder } from './builder.ts'
import { acting, payload } from './errors.ts'
import { rowIdOf } from './global-id.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'
import { ParentVm, RuntimeEnum } from './parent-vm.ts'

function parentSuccess(name: string, description: string) {
  return builder.objectRef<{ parentVmId: string }>(name).implement({
    description,
    fields: (t) => ({
      parentVm: t.field({ type: ParentVm, description: 'The parent VM as it is now.', resolve: ({ parentVmId }) => parentVmId }),
    }),
  })
}

const defaults = { network: false, cpuShare: 1, diskBytes: 1_073_741_824, maxLifetimeMs: 3_600_000 }

const PrivilegesInput = builder.inputType('ParentVmPrivilegesInput', {
  description: 'The most that a job may ask for each child.',
  fields: (t) => ({
    network: t.boolean({ required: true, defaultValue: defaults.network, description: 'Whether children may have a network card.' }),
    cpuShare: t.float({ required: true, defaultValue: defaults.cpuShare, description: 'Cores, from 0.01 to 64: 1 is one core.' }),
    diskBytes: t.field({
      type: 'ByteCount',
      required: true,
      defaultValue: defaults.diskBytes,
      description: 'Bytes that a child may write to its disk.',
    }),
    maxLifetimeMs: t.int({
      required: true,
      defaultValue: defaults.maxLifetimeMs,
      description: 'How long a child may live, in milliseconds: from a second to seven days.',
    }),
  }),
})

const RecipeInput = builder.inputType('ParentVmRecipeInput', {
  description: 'What it is made of, and what it may be used for. The same recipe gives the same parent VM.',
  fields: (t) => ({
    runtime: t.field({
      type: RuntimeEnum,
      required: true,
      description: 'What runs programs. Its package has to be among `packages`, or in the image.',
    }),
    packages: t.stringList({
      required: true,
      defaultValue: [],
      description: `Names of Debian packages, ${recipeLimits.packages} at most; what they depend on comes with them. Give these or \`imagePath\`.`,
    }),
    imagePath: t.string({
      description:
        "Absolute path of a raw disk image on the control plane's machine, instead of `packages`. It is copied and never changed. Every job on this parent VM can read all of it.",
    }),
    warmUp: t.string({
      description:
        'Source text that its runtime runs once before it is saved: what it loads and reads is there in each child at once. 1 MiB at most, as a JSON string.',
    }),
    memoryBytes: t.field({
      type: 'ByteCount',
      required: true,
      defaultValue: 268_435_456,
      description: 'Memory of it and of each child, in bytes: whole MiB, from 64 MiB to 256 GiB. Children share what they do not change.',
    }),
    cpuCount: t.int({ required: true, defaultValue: 1, description: `Processors of it and of each child: 1 to ${recipeLimits.cpus}.` }),
    privileges: t.field({
      type: PrivilegesInput,
      required: true,
      defaultValue: defaults,
      description: 'The most that a job may ask for each child.',
    }),
  }),
})

const RegisterParentVmInput = builder.inputType('RegisterParentVmInput', {
  description: 'What it is called, and what it is made of.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    name: t.string({
      required: true,
      description: 'For people; 1 to 100 visible characters. The name of one that exists changes that one.',
    }),
    recipe: t.field({ type: RecipeInput, required: true, description: 'What it is made of, and what it may be used for.' }),
    pausedChildren: t.int({
      description: `How many children are to stand ready at each of its clouds that forks, paused, 0 to ${jobLimits.pausedChildren}: a job whose children have the default privileges begins with these, in about half of a fork's time. The recipe has to allow these privileges. They hold some memory, and no processor. Where it is left away the number stays as it is: 0 at first.`,
    }),
  }),
})

builder.mutationField('registerParentVm', (t) =>
  t.field({
    type: parentSuccess('RegisterParentVmSuccess', 'The parent VM was stored, and is built where it has to be.'),
    errors: payload('registerParentVm'),
    authScopes: { admin: true },
    description:
      'Has a parent VM built at every connected cloud: booted, warmed up, and saved where the cloud can fork; elsewhere its children boot by themselves (see `ParentVmCopy.childOrigin`). Under the name of one that exists it replaces the recipe and builds it anew (jobs that run go on with the old one); with the same recipe it builds again what failed, and at clouds that were connected since, and else changes nothing but the number of children that stand ready. Watch it with `parentVmChanges`. For admins.',
    args: { input: t.arg({ type: RegisterParentVmInput, required: true, description: 'What it is called and made of.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () => {
        const { runtime, packages, imagePath, warmUp, memoryBytes, cpuCount, privileges } = input.recipe
        return operations.registerParentVm(actor, {
          idempotencyKey: checkedKey(input),
          name: input.name,
          pausedChildren: input.pausedChildren ?? null,
          recipe: {
            runtime,
            packages,
            imagePath: imagePath ?? null,
            warmUp: warmUp ?? null,
            memoryBytes,
            cpuCount,
            privileges: { ...privileges },
          },
        })
      }),
  }),
)

const DeleteParentVmInput = builder.inputType('DeleteParentVmInput', {
  description: 'Which parent VM.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    parentVmId: t.id({ required: true, description: "The parent VM's `id`." }),
  }),
})

builder.mutationField('deleteParentVm', (t) =>
  t.field({
    type: parentSuccess('DeleteParentVmSuccess', 'Its deletion was asked for; `state` follows.'),
    errors: payload('deleteParentVm'),
    authScopes: { admin: true },
    description: 'Deletes a parent VM with its files at every cloud. Refused while a job uses it. For admins.',
    args: { input: t.arg({ type: DeleteParentVmInput, required: true, description: 'Which parent VM.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () =>
        operations.deleteParentVm(actor, {
          idempotencyKey: checkedKey(input),
          parentVmId: rowIdOf('ParentVm', input.parentVmId, ['input', 'parentVmId']),
        }),
      ),
  }),
)
