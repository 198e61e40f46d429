import { jobLimits, privilegeDefaults } from '../src/domain/job-limits.ts'
import type { NewJob } from '../src/workflows/job-operations.ts'
import { builder } from './builder.ts'
import { acting, payload } from './errors.ts'
import { rowIdOf } from './global-id.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'
import { Job, PoisonPolicyEnum, TaskPeersEnum } from './job.ts'
import { RuntimeEnum } from './parent-vm.ts'

function jobSuccess(name: string, description: string) {
  return builder.objectRef<{ jobId: string }>(name).implement({
    description,
    fields: (t) => ({ job: t.field({ type: Job, description: 'The job as it is now.', resolve: ({ jobId }) => jobId }) }),
  })
}

const LibraryInput = builder.inputType('JobLibraryRequirementInput', {
  description: 'A library that the parent VM has to offer.',
  fields: (t) => ({
    name: t.string({ required: true, description: 'As its runtime knows it, such as `lodash` or `numpy`.' }),
    version: t.string({ description: 'Its first numbers: `4.17` is met by 4.17.21 and not by 4.18.0. Any where it is left away.' }),
  }),
})

const RequirementsInput = builder.inputType('JobRequirementsInput', {
  description: 'What the parent VM has to offer. Among several that do, `Job.parentReason` says why one was chosen.',
  fields: (t) => ({
    runtime: t.field({ type: RuntimeEnum, required: true, description: 'What runs the program.' }),
    runtimeVersion: t.string({ description: 'Its first numbers, such as `18` or `3.11`. Any where it is left away.' }),
    libraries: t.field({
      type: [LibraryInput],
      required: true,
      defaultValue: [],
      description: `Libraries that it has to have, ${jobLimits.libraries} at most.`,
    }),
    parentVmId: t.id({ description: "A parent VM's `id`: this one and no other." }),
  }),
})

const PrivilegesInput = builder.inputType('JobPrivilegesInput', {
  description: 'What each child may do, enforced outside the guest. A parent VM that allows less does not fit.',
  fields: (t) => ({
    networkId: t.id({
      description: "A network's `id`: children are on it, and at its cloud only. Where it is left away they have no network card.",
    }),
    cpuShare: t.float({ required: true, defaultValue: privilegeDefaults.cpuShare, description: 'Cores, from 0.01 to 64: 1 is one core.' }),
    memoryBytes: t.field({
      type: 'ByteCount',
      description:
        "The most resident memory of a child's process, in bytes, from 32 MiB. As much as its parent's memory and the machine around it take where it is left away.",
    }),
    diskBytes: t.field({
      type: 'ByteCount',
      required: true,
      defaultValue: privilegeDefaults.diskBytes,
      description: 'Bytes that a child may write to its disk.',
    }),
    maxLifetimeMs: t.int({
      required: true,
      defaultValue: privilegeDefaults.maxLifetimeMs,
      description: 'How long a child may live, in milliseconds: from a second to seven days. Then another takes its place.',
    }),
    peers: t.field({
      type: TaskPeersEnum,
      required: true,
      defaultValue: privilegeDefaults.peers,
      description: 'Which tasks a task may send messages to. Barriers are open to all.',
    }),
  }),
})

const SharedInputInput = builder.inputType('JobSharedInputInput', {
  description: 'A read-only input that all tasks see.',
  fields: (t) => ({
    name: t.string({
      required: true,
      description: "Unique; its name in the program's `context.shared`. A letter, then 99 letters, digits, `.`, `_` or `-` at most.",
    }),
    value: t.string({ required: true, description: 'Text.' }),
  }),
})

const TaskInput = builder.inputType('JobTaskInput', {
  description: 'One run of the program.',
  fields: (t) => ({
    input: t.field({
      type: 'JSON',
      description: `What the program is given: any JSON value of 1 MiB at most, nested ${jobLimits.inputDepth} levels at most. Null where it is left away.`,
    }),
    interactsWith: t.intList({
      required: true,
      defaultValue: [],
      description:
        'Places in the list, from 0, of tasks that it exchanges messages with or meets at barriers; one of the two has to name the other. Tasks that interact, directly or through others, run at one time in one child, and may take 8,000,000 bytes together.',
    }),
  }),
})

const SubmitJobInput = builder.inputType('SubmitJobInput', {
  description: 'A program, its tasks, and where they run.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    name: t.string({ required: true, description: 'For people; 1 to 100 visible characters.' }),
    requirements: t.field({ type: RequirementsInput, required: true, description: 'What the parent VM has to offer.' }),
    program: t.string({
      required: true,
      description:
        'Source text, 1 MiB at most as a JSON string. Node: a module whose default export, or `module.exports`, is `async (input, context) => output`. Python: defines `run(input, context)`. A file of the parent VM is a program by being required or imported. Whether it parses is known in the first child.',
    }),
    shared: t.field({
      type: [SharedInputInput],
      required: true,
      defaultValue: [],
      description: `Read-only inputs of all tasks, ${jobLimits.sharedInputs} at most, of 4 MiB together as JSON.`,
    }),
    tasks: t.field({
      type: [TaskInput],
      required: true,
      description: `1 to ${jobLimits.tasks} tasks, whose inputs have 32 MiB together at most. Send them as variables.`,
    }),
    privileges: t.field({ type: PrivilegesInput, required: true, defaultValue: privilegeDefaults, description: 'What each child may do.' }),
    children: t.int({ description: `How many children, 1 to ${jobLimits.children}; as many as fit and are of use where it is left away.` }),
    retries: t.int({ required: true, defaultValue: 0, description: `Further attempts of a task that failed: 0 to ${jobLimits.retries}.` }),
    taskTimeoutMs: t.int({
      required: true,
      defaultValue: 60_000,
      description: 'How long a task may take, in milliseconds: up to a day. Then it has failed.',
    }),
    onPoisonTask: t.field({
      type: PoisonPolicyEnum,
      required: true,
      defaultValue: 'FAIL',
      description: 'What is done about a task that killed its child three times.',
    }),
    cloudIds: t.idList({
      description: `Where children may be, ${jobLimits.clouds} clouds at most; wherever the parent VM has a copy where it is left away.`,
    }),
  }),
})

builder.mutationField('submitJob', (t) =>
  t.field({
    type: jobSuccess('SubmitJobSuccess', 'The job was stored with its tasks, and goes on by itself.'),
    errors: payload('submitJob'),
    authScopes: { operator: true },
    description:
      'Runs a program once for each task, in children forked from a warmed parent VM. Answers once it is stored; watch it with `jobProgress`. The only operation whose body may have 48 MiB, where it is the only one in its document and is sent over HTTP with its length. For operators.',
    args: { input: t.arg({ type: SubmitJobInput, required: true, description: 'A program, its tasks, and where they run.' }) },
    resolve: (_, { input }, { operations, actor }) => acting(async () => operations.submitJob(actor, toNewJob(input))),
  }),
)

/** @throws PortolanError INVALID_INPUT for an id of another type, and for a key that is none. */
function toNewJob(input: typeof SubmitJobInput.$inferInput): NewJob & { idempotencyKey: string } {
  const { name, requirements, program, shared, tasks, privileges, children, retries, taskTimeoutMs, onPoisonTask, cloudIds } = input
  const { parentVmId, runtime, runtimeVersion, libraries } = requirements
  const { networkId, memoryBytes } = privileges
  const path = (...names: string[]) => ['input', ...names]
  return {
    idempotencyKey: checkedKey(input),
    name,
    program,
    shared,
    tasks: tasks.map((task) => ({ input: task.input, interactsWith: task.interactsWith })),
    request: {
      requirements: {
        parentVmId: parentVmId == null ? null : rowIdOf('ParentVm', parentVmId, path('requirements', 'parentVmId')),
        runtime,
        runtimeVersion: runtimeVersion ?? null,
        libraries: libraries.map((library) => ({ name: library.name, version: library.version ?? null })),
      },
      privileges: {
        networkId: networkId == null ? null : rowIdOf('Network', networkId, path('privileges', 'networkId')),
        cpuShare: privileges.cpuShare,
        memoryBytes: memoryBytes ?? null,
        diskBytes: privileges.diskBytes,
        maxLifetimeMs: privileges.maxLifetimeMs,
        peers: privileges.peers,
      },
      children: children ?? null,
      retries,
      taskTimeoutMs,
      onPoisonTask,
      cloudIds: cloudIds ? [...new Set(cloudIds.map((id, place) => rowIdOf('Cloud', id, path('cloudIds', `${place}`))))] : null,
    },
  }
}

const CancelJobInput = builder.inputType('CancelJobInput', {
  description: 'Which job.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    jobId: t.id({ required: true, description: "The job's `id`." }),
  }),
})

builder.mutationField('cancelJob', (t) =>
  t.field({
    type: jobSuccess('CancelJobSuccess', 'The cancel was asked for; `state` follows.'),
    errors: payload('cancelJob'),
    authScopes: { operator: true },
    description: 'Ends a job: its children are removed, and what its tasks gave until then stays. For operators.',
    args: { input: t.arg({ type: CancelJobInput, required: true, description: 'Which job.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () =>
        operations.cancelJob(actor, { idempotencyKey: checkedKey(input), jobId: rowIdOf('Job', input.jobId, ['input', 'jobId']) }),
      ),
  }),
)
