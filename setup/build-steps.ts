/**
 * What the set-up builds, as data: a list of steps in order, each with a directory of its own below the cache.
 *
 * A step is done when its directory holds the stamp of the same inputs; otherwise it builds into a temporary directory beside it, which replaces the old
 * one in one rename. So an interrupted build leaves what was there, and an image that a running VM has open stays whole.
 */
import { createHash, randomUUID } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { giveTo } from './ownership.ts'

export interface BuildStep {
  /** Its directory below the cache, too. */
  name: string
  /** What it makes, for the log, such as `a Debian 12 system`. */
  what: string
  /** Whatever changes here makes it build again. */
  inputs: {
    values?: readonly string[]
    /** Absolute paths of files, and of directories that count with everything in them. */
    files?: readonly string[]
    /** Names of earlier steps whose results are used. */
    steps?: readonly string[]
  }
  /** Fills `directory`, which is empty. `resultOf` gives an earlier step's directory. */
  build(directory: string, context: BuildContext): Promise<void>
}

export interface BuildContext {
  cache: string
  resultOf: (step: string) => string
  signal?: AbortSignal | undefined
}

export interface RunStepsOptions {
  cache: string
  log: (line: string) => void
  signal?: AbortSignal | undefined
  /** `uid:gid` that the results belong to, where the set-up runs as root for somebody. */
  owner?: string | undefined
}

/** Builds what isn't there or is out of date, in order. Resolves to the names of what was built. Throws the first step's error, with what to do. */
export async function runSteps(steps: readonly BuildStep[], options: RunStepsOptions): Promise<string[]> {
  const { cache, log, signal } = options
  const resultOf = (name: string) => join(cache, name)
  const built: string[] = []
  mkdirSync(cache, { recursive: true })
  for (const step of steps) {
    signal?.throwIfAborted()
    removeRemains(cache, step.name)
    const inputs = digestInputs(step, resultOf)
    if (readStamp(resultOf(step.name))?.inputs === inputs) continue
    log(`building ${step.what}`)
    const started = performance.now()
    const directory = join(cache, `.${step.name}.${randomUUID()}`)
    mkdirSync(directory)
    try {
      await step.build(directory, { cache, resultOf, signal })
    } catch (error) {
      rmSync(directory, { recursive: true, force: true })
      const message = error instanceof Error ? error.message : String(error)
      throw new Error(
        `The set-up could not build ${step.what}: ${message}\nWhat was built before is kept. Mend the cause, and run "npm run setup" again.`,
        { cause: error },
      )
    }
    writeFileSync(join(directory, '.built'), JSON.stringify({ inputs, build: randomUUID(), at: new Date().toISOString() }))
    giveTo(options.owner, directory)
    replace(directory, resultOf(step.name))
    built.push(step.name)
    log(`built ${step.what} in ${((performance.now() - started) / 1000).toFixed(1)} s`)
  }
  return built
}

interface Stamp {
  inputs: string
  /** New at every build, so that what is made from it is made again. */
  build: string
}

function readStamp(directory: string): Stamp | undefined {
  const path = join(directory, '.built')
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Stamp) : undefined
}

function digestInputs(step: BuildStep, resultOf: (name: string) => string): string {
  const hash = createHash('sha256')
  const add = (label: string, content: string | Buffer) => hash.update(`${label} ${content.length}\n`).update(content)
  for (const value of step.inputs.values ?? []) add('value', value)
  for (const name of step.inputs.steps ?? []) add('step', readStamp(resultOf(name))?.build ?? 'missing')
  for (const path of step.inputs.files ?? []) {
    for (const file of filesBelow(path)) {
      const status = lstatSync(file)
      add(`file ${relative(path, file)} ${(status.mode & 0o111) !== 0}`, status.isSymbolicLink() ? readlinkSync(file) : readFileSync(file))
    }
  }
  return hash.digest('hex')
}

function filesBelow(path: string): string[] {
  if (!lstatSync(path).isDirectory()) return [path]
  const entries = readdirSync(path, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => !entry.isDirectory() && !entry.parentPath.includes('__pycache__'))
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted()
}

/** What a set-up that was killed left behind. Called under the lock, so no other one is at work. */
function removeRemains(cache: string, name: string): void {
  for (const entry of readdirSync(cache)) if (entry.startsWith(`.${name}.`)) rmSync(join(cache, entry), { recursive: true, force: true })
}

function replace(directory: string, target: string): void {
  if (existsSync(target)) {
    const old = `${directory}.old`
    renameSync(target, old)
    renameSync(directory, target)
    rmSync(old, { recursive: true, force: true })
  } else renameSync(directory, target)
}
