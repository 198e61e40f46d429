/**
 * Everything that demo and tests need and a clone doesn't have: Debian packages, guest images, the agent. What is there already is skipped.
 * As a script: `npm run setup`.
 */
import { join, resolve } from 'node:path'
import { artifacts, cacheDirectory, type Artifacts } from './artifacts.ts'
import { runSteps, type BuildStep } from './build-steps.ts'
import { giveTo, makeDirectoryFor } from './ownership.ts'
import { ensureParentImages } from './parent-images.ts'
import { ensurePackages, systemPackages, testPackages } from './packages.ts'
import { withSetUpLock } from './set-up-lock.ts'
import { agentBundle } from './steps/agent-bundle.ts'
import { agentRuntime } from './steps/agent-runtime.ts'
import { browser } from './steps/browser.ts'
import { guestImage } from './steps/guest-image.ts'
import { guestTree } from './steps/guest-tree.ts'
import { keys } from './steps/keys.ts'
import { landing, landingBase } from './steps/landing.ts'
import { parentBase } from './steps/parent-base.ts'

export interface SetupOptions {
  /** Told what is built, and how long it took; nothing when all is there. */
  log: (line: string) => void
  signal?: AbortSignal | undefined
  /** Whether what only the tests use is wanted, too. */
  tests?: boolean
  /** The agent's entry file, where it isn't this repository's. */
  agentEntry?: string
}

/** Makes sure that everything `artifacts()` names is there and current. Throws an Error whose message says what failed and what to do. */
export async function ensureSetup({ log, signal, tests = false, agentEntry }: SetupOptions): Promise<Artifacts> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Error(
      `The guests are built and run on Linux on x64 only, and this is ${process.platform} on ${process.arch}: use such a machine.`,
    )
  const cache = cacheDirectory()
  const owner = process.env['PORTOLAN_OWNER']
  makeDirectoryFor(owner, cache)
  const steps: BuildStep[] = [
    keys,
    guestTree,
    guestImage('tiny', 512),
    guestImage('debian', 2048),
    agentRuntime(),
    landingBase,
    agentBundle(agentEntry),
    landing,
    parentBase,
    ...(tests ? [browser] : []),
  ]
  const work = async () => {
    await ensurePackages(tests ? [...systemPackages, ...testPackages] : systemPackages, { log })
    await runSteps(steps, { cache, log, owner, signal })
    await ensureParentImages(artifacts(cache), { signal, owner, tests })
  }
  await withSetUpLock(cache, log, work, signal)
  for (const shared of ['debs', 'set-up.lock']) giveTo(owner, join(cache, shared))
  return artifacts(cache)
}

if (process.argv[1] && resolve(process.argv[1]) === import.meta.filename) {
  const started = performance.now()
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort(new Error(`ended by ${signal}`)))
  const log = (line: string) => process.stderr.write(`set-up: ${line}\n`)
  try {
    const { cacheDirectory: cache } = await ensureSetup({ log, signal: stop.signal, tests: process.argv.includes('--tests') })
    log(`all is there, in ${cache} (${((performance.now() - started) / 1000).toFixed(1)} s)`)
  } catch (error) {
    log(error instanceof Error ? error.message : String(error))
    process.exitCode = 1
  }
}
