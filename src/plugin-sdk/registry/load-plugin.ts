/** Loads one plugin in a process of its own, and says clearly why when it can't be used. */
import type { PluginLog } from '../contract.ts'
import { ProviderError } from '../errors.ts'
import { type CallLimits, openPluginConnection, type PluginConnection, usualLimits } from './plugin-connection.ts'
import { type PluginChild, startPluginChild } from './plugin-child.ts'
import type { PluginDeclaration } from './plugin-protocol.ts'
import { type Redact, redactorFor } from './redact.ts'
import { resolvePlugin } from './resolve-plugin.ts'

const loadTimeoutMs = 60_000
const validateTimeoutMs = 30_000

export interface LoadedPlugin {
  id: string
  apiVersion: { major: number; minor: number }
  /** JSON Schema of the options; null where the plugin's schema library can't give one. */
  optionsJsonSchema: Record<string, unknown> | null
  /** Known from a connection only, so empty here. */
  capabilities: string[]
  /** Throws ProviderError INVALID_OPTIONS with the option's path. */
  validateOptions(options: unknown): Promise<void>
  /** A process of its own for each connection. Throws what the plugin's connect throws, as ProviderError. */
  connect(options: unknown, context?: { known?: boolean; signal?: AbortSignal; log?: PluginLog }): Promise<PluginConnection>
}

export interface LoadContext {
  log: PluginLog
  /** Where paths and packages are looked for; the working directory by default. */
  directory?: string
  limits?: Partial<CallLimits>
}

/**
 * @param specifier a package's name, or a path: see resolve-plugin.ts.
 * Throws ProviderError NOT_FOUND or INCOMPATIBLE_PLUGIN: one sentence that names the plugin and what is wrong.
 */
export async function loadPlugin(specifier: string, context: LoadContext): Promise<LoadedPlugin> {
  const url = await resolvePlugin(specifier, context.directory ?? process.cwd())
  const limits = { ...usualLimits, ...context.limits }
  const start = async (
    log: PluginLog,
    signal?: AbortSignal,
    redact: Redact = (value) => value,
  ): Promise<{ child: PluginChild; declaration: PluginDeclaration }> => {
    const child = startPluginChild(specifier, log, limits.unresponsiveMs, redact)
    try {
      const declaration = await child.request({ kind: 'load', url }, { timeoutMs: loadTimeoutMs, graceMs: 0, signal })
      return { child, declaration: declaration as PluginDeclaration }
    } catch (error) {
      await child.kill()
      throw refused(specifier, error)
    }
  }

  const first = await start(context.log)
  await first.child.kill()
  const { declaration } = first
  return {
    ...declaration,
    capabilities: [],
    async validateOptions(options) {
      const redact = redactorFor(options)
      const { child } = await start(redacting(context.log, redact, declaration.id), undefined, redact)
      try {
        await child.request({ kind: 'validate', options }, { timeoutMs: validateTimeoutMs, graceMs: 0 })
      } finally {
        await child.kill()
      }
    },
    connect(options, { known = false, signal, log = context.log } = {}) {
      const redact = redactorFor(options)
      const redactedLog = redacting(log, redact, declaration.id)
      const startLoaded = async (startSignal?: AbortSignal) => (await start(redactedLog, startSignal, redact)).child
      return openPluginConnection(startLoaded, options, { limits, known, signal, log: redactedLog })
    },
  }
}

function redacting(log: PluginLog, redact: Redact, plugin: string): PluginLog {
  return (level, message, fields = {}) => log(level, redact(message), { plugin, ...redact(fields) })
}

function refused(specifier: string, error: unknown): unknown {
  if (!(error instanceof ProviderError) || error.code !== 'INCOMPATIBLE_PLUGIN') return error
  return new ProviderError('INCOMPATIBLE_PLUGIN', `The plugin ${JSON.stringify(specifier)} can't be used: ${error.message}.`, {
    retryable: false,
    remedy: error.remedy,
    path: ['plugins', specifier],
    cause: error,
  })
}
