/** Source texts as modules of this runtime: CommonJS, or an ES module where it can't be that. */
import { writeFileSync } from 'node:fs'
import Module from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** What the compiler says of an ES module that it was given as CommonJS. */
const onlyInModules =
  /import statement outside a module|Unexpected token 'export'|'import\.meta' outside a module|await is only valid|reserved word/

let loaded = 0

/** Runs the text and gives what it exports. Throws what it throws; `place` tells where. */
export async function load(name, source, directory) {
  loaded += 1
  const path = join(directory, `${name}-${loaded}`)
  try {
    const module = new Module(`${path}.js`)
    module.filename = `${path}.js`
    module.paths = Module._nodeModulePaths(dirname(path))
    module._compile(source, module.filename)
    return module.exports
  } catch (error) {
    if (!(error instanceof SyntaxError && onlyInModules.test(error.message))) throw error
  }
  writeFileSync(`${path}.mjs`, source)
  return await import(pathToFileURL(`${path}.mjs`).href)
}

/** The message of what was thrown, and the line of the given text that it came from. */
export function describe(error, name) {
  let text
  try {
    text =
      error instanceof Error ? `${error.name}: ${error.message}` : `thrown: ${typeof error === 'string' ? error : JSON.stringify(error)}`
  } catch {
    text = 'thrown: what can not be told'
  }
  const line = new RegExp(`/${name}-\\d+\\.m?js:(\\d+)`).exec(String(error?.stack))?.[1]
  const told = line === undefined ? text : `${text} (line ${line})`
  return told.length > 4_000 ? `${told.slice(0, 4_000)}…` : told
}
