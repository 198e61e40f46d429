import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { runSteps, type BuildStep } from '../../setup/build-steps.ts'

let cache: string
let source: string
let log: string[]

beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), 'portolan-steps-'))
  source = mkdtempSync(join(tmpdir(), 'portolan-sources-'))
  writeFileSync(join(source, 'a'), 'one')
  log = []
})
afterEach(() => [cache, source].forEach((directory) => rmSync(directory, { recursive: true, force: true })))

const run = (...steps: BuildStep[]) => runSteps(steps, { cache, log: (line) => log.push(line) })

/** Copies its source. */
const tree = (): BuildStep => ({
  name: 'tree',
  what: 'the tree',
  inputs: { files: [source] },
  build: async (directory) => writeFileSync(join(directory, 'content'), readFileSync(join(source, 'a'))),
})
/** Made from the tree. */
const image = (): BuildStep => ({
  name: 'image',
  what: 'the image',
  inputs: { steps: ['tree'], values: ['2048'] },
  build: async (directory, { resultOf }) => writeFileSync(join(directory, 'disk'), readFileSync(join(resultOf('tree'), 'content'))),
})

test('everything is built once, and nothing the second time', async () => {
  expect(await run(tree(), image())).toEqual(['tree', 'image'])
  expect(log.some((line) => /^built the image in [\d.]+ s$/.test(line))).toBe(true)
  log = []
  expect(await run(tree(), image())).toEqual([])
  expect(log).toEqual([])
})

test('a change of a source builds what is made from it too', async () => {
  await run(tree(), image())
  writeFileSync(join(source, 'a'), 'two')
  expect(await run(tree(), image())).toEqual(['tree', 'image'])
  expect(readFileSync(join(cache, 'image/disk'), 'utf8')).toBe('two')
})

test('a new file in a source directory, and another value, each count as a change', async () => {
  await run(tree(), image())
  writeFileSync(join(source, 'b'), '')
  expect(await run(tree())).toEqual(['tree'])
  await run(tree(), image())
  expect(await run(tree(), { ...image(), inputs: { steps: ['tree'], values: ['512'] } })).toEqual(['image'])
})

test('a step that fails leaves what was built before, and nothing half done', async () => {
  await run(tree())
  writeFileSync(join(source, 'a'), 'two')
  const broken: BuildStep = {
    ...tree(),
    build: async (directory) => {
      writeFileSync(join(directory, 'content'), 'half')
      throw new Error('the disk is full')
    },
  }
  await expect(run(broken)).rejects.toThrow(/could not build the tree: the disk is full/)
  expect(readFileSync(join(cache, 'tree/content'), 'utf8')).toBe('one')
  expect(readdirSync(cache)).toEqual(['tree'])
})

test('what a killed set-up left behind is removed', async () => {
  mkdirSync(join(cache, '.tree.killed'))
  await run(tree())
  expect(readdirSync(cache)).toEqual(['tree'])
})

test('a set-up that is told to stop builds nothing more', async () => {
  const stop = new AbortController()
  const first: BuildStep = { ...tree(), build: async () => stop.abort(new Error('ended by SIGINT')) }
  await expect(runSteps([first, image()], { cache, log: () => {}, signal: stop.signal })).rejects.toThrow('ended by SIGINT')
  expect(existsSync(join(cache, 'image'))).toBe(false)
})
