import { PortolanError } from '../src/domain/errors.ts'
import { nestsWithin } from '../src/domain/nests-within.ts'
import type { Operations } from '../src/workflows/operations.ts'
import { builder } from './builder.ts'
import { Cloud } from './cloud.ts'
import { acting, payload } from './errors.ts'
import { rowIdOf } from './global-id.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'
import { invalidInput } from './invalid-input.ts'
import { limits } from './limits.ts'

function cloudSuccess(name: string, description: string) {
  return builder.objectRef<{ cloudId: string }>(name).implement({
    description,
    fields: (t) => ({ cloud: t.field({ type: Cloud, description: 'The cloud as it is now.', resolve: ({ cloudId }) => cloudId }) }),
  })
}

const ConnectCloudInput = builder.inputType('ConnectCloudInput', {
  description: 'Which cloud, and how to reach it.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    name: t.string({ required: true, description: 'How you call it; unique, 1 to 100 characters.' }),
    pluginId: t.string({ required: true, description: "The plugin's short name (`Plugin.pluginId`)." }),
    options: t.field({
      type: 'JSON',
      required: true,
      description: `What the plugin asks for, credentials included, nested ${limits.optionsDepth} levels at most; \`Plugin.optionsSchema\` describes it. Sealed at rest, and never shown again.`,
    }),
  }),
})

builder.mutationField('connectCloud', (t) =>
  t.field({
    type: cloudSuccess('ConnectCloudSuccess', 'The cloud answered, and its topology was read.'),
    errors: payload('connectCloud'),
    authScopes: { admin: true },
    description: 'Connects a cloud: checks the options, connects, and reads the topology. For admins.',
    args: { input: t.arg({ type: ConnectCloudInput, required: true, description: 'Which cloud, and how to reach it.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () => {
        const { length } = input.name
        if (length < 1 || length > 100) throw invalidInput(`must have 1 to 100 characters, and has ${length}`, ['input', 'name'])
        if (!nestsWithin(input.options, limits.optionsDepth))
          throw invalidInput(`nests more than ${limits.optionsDepth} levels`, ['input', 'options'])
        const wanted = {
          idempotencyKey: checkedKey(input),
          name: input.name,
          pluginId: input.pluginId,
          options: input.options,
        }
        return operations.connectCloud(actor, wanted).catch(placeInInput)
      }),
  }),
)

/** The registry of plugins names a place in what it was called with, which a client knows by its place in the input. */
function placeInInput(error: unknown): never {
  if (!(error instanceof PortolanError)) throw error
  const { code, message, retryable, remedy, path } = error
  if (path[0] === 'options') throw new PortolanError(code, message, { retryable, remedy, path: ['input', ...path] })
  if (path[0] === 'pluginId') throw new PortolanError('PLUGIN_UNKNOWN', message, { retryable, remedy, path: ['input', 'pluginId'] })
  throw error
}

function acrossCloud(mutation: 'disconnectCloud' | 'refreshTopology', role: 'operator' | 'admin', description: string, success: string) {
  const name = `${mutation[0]?.toUpperCase()}${mutation.slice(1)}`
  const Input = builder.inputType(`${name}Input`, {
    description: 'Which cloud.',
    fields: (t) => ({ idempotencyKey: idempotencyKey(t), cloudId: t.id({ required: true, description: "The cloud's `id`." }) }),
  })
  builder.mutationField(mutation, (t) =>
    t.field({
      type: cloudSuccess(`${name}Success`, success),
      errors: payload(mutation),
      authScopes: role === 'admin' ? { admin: true } : { operator: true },
      description,
      args: { input: t.arg({ type: Input, required: true, description: 'Which cloud.' }) },
      resolve: (_, { input }, { operations, actor }) =>
        acting(async () =>
          operations[mutation satisfies keyof Operations](actor, {
            idempotencyKey: checkedKey(input),
            cloudId: rowIdOf('Cloud', input.cloudId, ['input', 'cloudId']),
          }),
        ),
    }),
  )
}

acrossCloud(
  'disconnectCloud',
  'admin',
  'Ends the connection to a cloud and forgets its credentials; nothing in the cloud changes, so copies that migrations kept and what parent VMs have saved there stay until it is connected again: discard or delete them first. Refused while a migration, a child of a job, a child that stands ready or a parent VM that is being built uses it. For admins.',
  'The cloud is disconnected.',
)
acrossCloud('refreshTopology', 'operator', 'Reads what a cloud has now. For operators.', 'The topology was read.')
