/** docs/writing-a-plugin.md, done word for word in a folder of its own. */
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadPlugin } from '../../src/plugin-sdk/registry/load-plugin.ts'

const repository = join(import.meta.dirname, '../..')

/** Fenced blocks: `sh` is run, a block with a file's name after its language is written. */
const blocks = (markdown: string) =>
  [...markdown.matchAll(/^```(\w+)(?: (\S+))?\n([\s\S]*?)^```$/gm)].map(([, language = '', file, content = '']) => ({
    language,
    file,
    content,
  }))

async function run(script: string, cwd: string): Promise<{ code: number; output: string }> {
  const shell = spawn('sh', ['-c', script], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: directory, NO_COLOR: '1' },
  })
  let output = ''
  shell.stdout.on('data', (chunk) => (output += chunk))
  shell.stderr.on('data', (chunk) => (output += chunk))
  const [code] = (await once(shell, 'close')) as [number]
  return { code, output }
}

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-doc-'))
  await symlink(repository, join(directory, 'portolan'))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

test('the plugin of docs/writing-a-plugin.md passes the conformance suite, and Portolan takes it', { timeout: 400_000 }, async () => {
  const parts = blocks(await readFile(join(repository, 'docs/writing-a-plugin.md'), 'utf8'))
  let script = 'set -e\n'
  for (const [index, { language, file, content }] of parts.entries()) {
    if (language === 'sh') script += content
    if (file === undefined) continue
    const kept = join(directory, 'blocks', String(index))
    await mkdir(dirname(kept), { recursive: true })
    await writeFile(kept, content)
    script += `cp '${kept}' '${file}'\n`
  }
  const { code, output } = await run(script, directory)
  expect(code, output).toBe(0)
  expect(output).toMatch(/shelf: tested: .*destination\.discardOverlay.*virtualMachines\.create/)
  expect(output).toMatch(/shelf: tested: .*fencing\.release/)
  expect(output).toMatch(
    /shelf: skipped.*: destination\.adopt\.giveBack, destination\.adopt\.start, destination\.testBoot\.remove, destination\.testBoot\.start, fork\.bootParent, .*, virtualMachines\.console$/m,
  )

  const [configuration] = parts.filter(({ language }) => language === 'ts')
  const specifier = /'(\.\.\/shelf)'/.exec(configuration?.content ?? '')?.[1] ?? ''
  const plugin = await loadPlugin(specifier, { log: () => {}, directory: join(directory, 'portolan') })
  expect(plugin.id).toBe('shelf')
})

test('the suite finds what a crash would have cost', { timeout: 400_000 }, async () => {
  const module = join(directory, 'shelf', 'index.js')
  const source = await readFile(module, 'utf8')
  const mistakes: [string, string, string, string][] = [
    ['forgets its operations', 'present?.operationId === operationId', 'false', 'is made once'],
    ['says that a cloud it did not ask has no such machine', "'NOT_FOUND'", "'UNREACHABLE'", 'is NOT_FOUND'],
    ['overwrites records', 'if (sameRecord(', 'if (true || sameRecord(', 'with the same content'],
    ['leaves a disk behind', 'await rm(disk.backingPath, { force: true })', '', 'a destination'],
    [
      'discards what was copied',
      'discardOverlay: run(',
      'discardOverlay: async ({ vmId }) => makeEmptyDisk((await get(vmId)).disks[0]), unused: run(',
      'a destination',
    ],
    ['goes back from a copy that is live', 'isolated === false', 'false', 'is exposed only with its completed event'],
  ]
  for (const [what, right, wrong, checks] of mistakes) {
    expect(source).toContain(right)
    await writeFile(module, source.replace(right, wrong))
    const { code, output } = await run(`npm test -- -t '${checks}'`, join(directory, 'shelf'))
    expect(code, `a plugin that ${what}: ${output}`).not.toBe(0)
  }
  await writeFile(module, source)
})
