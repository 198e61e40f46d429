/** From what portolan.config.ts names to the file that is imported. */
import { readFile, stat } from 'node:fs/promises'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { ProviderError } from '../errors.ts'

/**
 * A path (absolute, or beginning with a dot: from `directory`) of a module or of a package's directory, or the name of a package in a node_modules
 * directory there or above. Returns a file URL. Throws ProviderError NOT_FOUND with the remedy.
 */
export async function resolvePlugin(specifier: string, directory: string): Promise<string> {
  if (specifier.startsWith('file:')) return resolvePlugin(fileURLToPath(specifier), directory)
  const isPath = isAbsolute(specifier) || /^\.{1,2}(\/|$)/.test(specifier)
  const found = isPath ? await moduleAt(resolve(directory, specifier)) : await packageAbove(specifier, directory)
  if (found) return pathToFileURL(found).href
  throw new ProviderError('NOT_FOUND', `The plugin ${JSON.stringify(specifier)} is not there, looked for from ${directory}.`, {
    retryable: false,
    remedy: isPath
      ? "Correct the path in the configuration's plugins."
      : `Install it with "npm install ${specifier}", or correct the name in the configuration's plugins.`,
    path: ['plugins', specifier],
  })
}

async function packageAbove(name: string, directory: string): Promise<string | null> {
  const found = await moduleAt(join(directory, 'node_modules', name))
  if (found || dirname(directory) === directory) return found
  return await packageAbove(name, dirname(directory))
}

async function moduleAt(path: string): Promise<string | null> {
  const kind = await stat(path).catch(() => null)
  if (!kind?.isDirectory()) return kind ? path : null
  const entry = await entryOf(path)
  for (const candidate of entry ? [entry] : ['index.ts', 'index.js', 'index.mjs'])
    if (await stat(join(path, candidate)).catch(() => null)) return join(path, candidate)
  return null
}

/** `exports` for importing, else `main`. */
async function entryOf(packageDirectory: string): Promise<string | null> {
  const text = await readFile(join(packageDirectory, 'package.json'), 'utf8').catch(() => null)
  if (text === null) return null
  const { exports, main } = JSON.parse(text) as { exports?: unknown; main?: string }
  return importTarget(exports) ?? main ?? null
}

function importTarget(exports: unknown): string | null {
  if (typeof exports === 'string') return exports
  if (typeof exports !== 'object' || exports === null) return null
  const { '.': root, node, import: forImport, default: otherwise } = exports as Record<string, unknown>
  return importTarget(root) ?? importTarget(node) ?? importTarget(forImport) ?? importTarget(otherwise)
}
