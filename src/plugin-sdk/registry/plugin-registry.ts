/** The plugins that the configuration names. */
import type { PluginLog } from '../contract.ts'
import { ProviderError } from '../errors.ts'
import { type LoadContext, type LoadedPlugin, loadPlugin } from './load-plugin.ts'
import type { PluginConnection } from './plugin-connection.ts'

export interface PluginRegistry {
  list(): Promise<LoadedPlugin[]>
  /** Throws ProviderError NOT_FOUND for an id that no plugin has, and what the plugin's validateOptions throws. */
  validateOptions(pluginId: string, options: unknown): Promise<void>
  /** Throws ProviderError NOT_FOUND for an id that no plugin has, INVALID_OPTIONS, and what connecting throws. */
  connect(
    pluginId: string,
    options: unknown,
    context?: { known?: boolean; signal?: AbortSignal; log?: PluginLog },
  ): Promise<PluginConnection>
  /** Closes every connection that is open, and ends the plugins' processes. */
  close(): Promise<void>
}

/** Loads them all. Throws ProviderError for the first that can't be used, and INCOMPATIBLE_PLUGIN where two have the same id. */
export async function openPluginRegistry(specifiers: readonly string[], context: LoadContext): Promise<PluginRegistry> {
  const plugins = await Promise.all(specifiers.map((specifier) => loadPlugin(specifier, context)))
  plugins.forEach((plugin, index) => {
    const earlier = plugins.findIndex(({ id }) => id === plugin.id)
    if (earlier !== index) throw duplicate(plugin.id, specifiers[earlier] ?? '', specifiers[index] ?? '')
  })
  const find = (pluginId: string): LoadedPlugin => {
    const found = plugins.find(({ id }) => id === pluginId)
    if (found) return found
    throw new ProviderError(
      'NOT_FOUND',
      `There is no plugin ${JSON.stringify(pluginId)}; loaded are: ${plugins.map(({ id }) => id).join(', ') || 'none'}.`,
      {
        retryable: false,
        remedy: "Use one of them, or add the plugin to the configuration's plugins and start again.",
        path: ['pluginId'],
      },
    )
  }
  const open = new Set<PluginConnection>()
  return {
    list: () => Promise.resolve(plugins),
    validateOptions: async (pluginId, options) => await find(pluginId).validateOptions(options),
    async connect(pluginId, options, connectContext) {
      const opened = await find(pluginId).connect(options, connectContext)
      const close = opened.connection.close
      const tracked: PluginConnection = {
        ...opened,
        connection: {
          ...opened.connection,
          async close() {
            open.delete(tracked)
            await close()
          },
        },
      }
      open.add(tracked)
      return tracked
    },
    async close() {
      await Promise.all([...open].map(({ connection }) => connection.close()))
    },
  }
}

function duplicate(id: string, first: string, second: string): ProviderError {
  return new ProviderError(
    'INCOMPATIBLE_PLUGIN',
    `The plugins ${JSON.stringify(first)} and ${JSON.stringify(second)} both have the id ${JSON.stringify(id)}.`,
    {
      retryable: false,
      remedy: "Name only one of them in the configuration's plugins.",
      path: ['plugins', second],
    },
  )
}
