import { eq } from 'drizzle-orm'
import { clouds } from '../src/database/tables/cloud.ts'
import { builder } from './builder.ts'
import { Cloud } from './cloud.ts'
import type { LoadedPlugin } from './context.ts'

const ApiVersion = builder.objectRef<LoadedPlugin['apiVersion']>('ApiVersion').implement({
  description: 'A version of the provider contract. Another `major` is refused when the plugin is loaded.',
  fields: (t) => ({
    major: t.exposeInt('major', { description: 'Grows when plugins have to be changed.' }),
    minor: t.exposeInt('minor', { description: 'Grows when something optional was added.' }),
  }),
})

const Plugin = builder.objectRef<LoadedPlugin>('Plugin')
builder.node(Plugin, {
  description: 'A provider plugin, loaded in a process of its own. Which ones are loaded is said in the configuration.',
  id: { description: 'Opaque and stable id of this Plugin.', resolve: (plugin) => plugin.id },
  isTypeOf: (value) => typeof value === 'object' && value !== null && 'apiVersion' in value,
  loadOne: async (id, { plugins }) => (await plugins.list()).find((plugin) => plugin.id === id) ?? null,
  fields: (t) => ({
    pluginId: t.exposeString('id', { description: "The plugin's own short name, which `connectCloud` takes." }),
    apiVersion: t.expose('apiVersion', { type: ApiVersion, description: 'The contract version it was written for.' }),
    capabilities: t.exposeStringList('capabilities', {
      description:
        'What its connections can do, as paths in the provider contract such as `records.put`; empty where only a connection tells (see `Cloud.capabilities`).',
    }),
    optionsSchema: t.field({
      type: 'JSON',
      nullable: true,
      description: 'JSON Schema of the `options` that `connectCloud` takes for it; null where the plugin can not tell.',
      resolve: (plugin) => plugin.optionsJsonSchema,
    }),
    clouds: t.field({
      type: [Cloud],
      description: 'The clouds that are connected through it.',
      resolve: (plugin, _, { db }) => db.select().from(clouds).where(eq(clouds.pluginId, plugin.id)).orderBy(clouds.name),
    }),
  }),
})

builder.queryField('plugins', (t) =>
  t.field({
    type: [Plugin],
    authScopes: { viewer: true },
    description: 'The plugins that are loaded, by their short name.',
    resolve: (_, __, { plugins }) => plugins.list(),
  }),
)

builder.objectField(Cloud, 'plugin', (t) =>
  t.field({
    type: Plugin,
    nullable: true,
    description: 'The plugin it is connected through; null where that is no longer loaded.',
    resolve: async (cloud, _, { plugins }) => (await plugins.list()).find((plugin) => plugin.id === cloud.pluginId) ?? null,
  }),
)
