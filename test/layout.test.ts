import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')

/** Which areas an area may import besides itself. An area that is missing here is refused, so that a new folder is a decision. */
const mayImport: Record<string, string[]> = {
  setup: [],
  'src/configuration.ts': [],
  'src/domain': [],
  'src/secrets': [],
  'src/transfer': [],
  'src/plugin-sdk': [],
  'src/agents': ['src/transfer'],
  'src/agent-gateway': ['src/transfer', 'src/domain'],
  'src/database': ['src/domain'],
  'src/job-environment': ['src/domain', 'src/transfer'],
  'src/engine': ['src/domain'],
  'src/workflows': [
    'src/domain',
    'src/database',
    'src/plugin-sdk',
    'src/agent-gateway',
    'src/transfer',
    'src/secrets',
    'src/engine',
    'src/job-environment',
  ],
  schema: ['src/domain', 'src/database', 'src/workflows'],
  'src/server': ['schema', 'src/domain', 'src/database', 'src/workflows', 'src/secrets'],
  // Checks the control plane's own record, so it can't be one of its clients.
  'src/cli/audit.ts': ['src/configuration.ts', 'src/database', 'src/secrets', 'src/workflows'],
  'src/cli': ['src/configuration.ts', 'src/plugin-sdk', 'setup'],
  plugins: ['src/plugin-sdk'],
}

function area(path: string): string | undefined {
  return Object.keys(mayImport).find((name) => path === name || path.startsWith(`${name}/`))
}

function sources(directory: string): string[] {
  return readdirSync(join(root, directory), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.parentPath.includes('node_modules'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
}

function imports(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8')
  return [...text.matchAll(/^(?:import|export)\b[^'"]*?from\s+'(\.[^']+)'|^import\s+'(\.[^']+)'|\bimport\('(\.[^']+)'\)/gm)].map((match) =>
    relative(root, resolve(root, dirname(file), (match[1] ?? match[2] ?? match[3])!)),
  )
}

const files = [...sources('src'), ...sources('schema'), ...sources('plugins')]

test('every file imports only what its area may', () => {
  const offences = files.flatMap((file) => {
    const from = area(file)
    if (from === undefined) return file === 'src/main.ts' ? [] : [`${file} is in no area that layout.test.ts names`]
    return imports(file)
      .filter((target) => {
        const to = area(target)
        if (from === 'plugins' && to === 'plugins') return target.split('/')[1] !== file.split('/')[1]
        return to === undefined ? !target.startsWith(from) : to !== from && !mayImport[from]!.includes(to)
      })
      .map((target) => `${file} imports ${target}`)
  })
  expect(offences).toEqual([])
})

test('no line outside plugins knows a provider by name', () => {
  const providers = /\b(libvirt|virsh|qmp)\b/i
  // The demo and its private site choose providers; the default configuration names them.
  const offences = files.filter(
    (file) => !file.startsWith('plugins/') && !file.startsWith('src/cli/') && providers.test(readFileSync(join(root, file), 'utf8')),
  )
  expect(offences).toEqual([])
})

test('file names are kebab-case and none is a catch-all', () => {
  const names = files.map((file) => ({ file, name: file.split('/').at(-1)!.replace(/\.ts$/, '') }))
  expect(names.filter(({ name }) => !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name)).map(({ file }) => file)).toEqual([])
  expect(names.filter(({ name }) => /^(utils?|helpers?|common|misc|manager)$/.test(name)).map(({ file }) => file)).toEqual([])
})
