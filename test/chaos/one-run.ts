/** One run of the campaign: a real migration, its faults, the way back to peace, and the checks. */
import { cp, glob, mkdir, readdir } from 'node:fs/promises'
import { conclude, concludeFromRecords } from './conclude.ts'
import { openScenario } from '../support/scenario-site.ts'
import { checkAcknowledged, checkLeaks, checkRemains } from './checks.ts'
import type { ChaosSite } from './chaos-site.ts'
import { watchLiveCopies } from './copies.ts'
import { injectAndHeal } from './inject-and-heal.ts'
import { clearSite, controlPlaneProcesses, inventory, partsOfIsolatedNetworks } from './inventory.ts'
import type { RunPlan } from './plan.ts'
import type { RunResult } from './result.ts'
import { createStage, type Stage } from './stage.ts'

export interface RunOptions {
  site: ChaosSite
  /** Time-outs are so many times as long: for busy machines. */
  patience: number
  /** Aborted: the run ends as it stands. */
  signal?: AbortSignal
  say(line: string): void
}

const endsWithinMs = 240_000
/** In a run of a minute there are some sixty. */
const fewestLooks = 10
/** An agent that isn't heard of for so long is given up, and a round that gets nowhere: shorter than the longest fault. */
const lostAfterMs = 30_000
const recordPauseMs = 500

/** Fills in the result, and answers with it. @throws Error when there is no stage to play on, or what was played on can't be removed. */
export async function oneRun(result: RunResult, options: RunOptions): Promise<RunResult> {
  const { plan } = result
  const { site, say } = options
  const begun = performance.now()
  const before = await inventory(site)
  const runningBefore = await controlPlaneProcesses()
  const scenario = await openScenario({ from: plan.from, site: site.demo, agents: { lostAfterMs }, recordPauseMs })
  const stage = createStage(scenario, site)
  const watch = watchLiveCopies(scenario)
  const over = new AbortController()
  const signal = AbortSignal.any([over.signal, ...(options.signal ? [options.signal] : [])])
  let injections: Promise<void>[] = []
  const story = async () => {
    const { migration, message } = await scenario.start()
    if (!migration) throw new Error(`The migration was refused: ${message}`)
    const id = migration.id
    say(`run ${plan.run}: the migration begins ${Math.round(performance.now() - begun)} ms after the run`)
    const timeoutMs = endsWithinMs * options.patience
    injections = plan.faults.map((fault, index) =>
      injectAndHeal(stage, id, fault, {
        timeoutMs,
        signal,
        say: (line) => say(`run ${plan.run}: ${fault.name}: ${line}`),
        injected(phase) {
          result.injectedIn[index] = phase
          say(`run ${plan.run}: ${fault.name} in ${phase}, ${fault.delayMs} ms after ${fault.phase} was seen`)
        },
      }),
    )
    // Whatever becomes of one, the other one is healed too.
    for (const injected of await Promise.allSettled(injections)) if (injected.status === 'rejected') throw injected.reason
    if (stage.databaseWasLost()) await concludeFromRecords(stage, timeoutMs, result)
    else await conclude(stage, id, timeoutMs, result)
    say(`run ${plan.run}: ${result.outcome}`)
  }
  const aborted = new Promise<never>((_, reject) => {
    const stop = () => reject(new Error('It was interrupted.'))
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop, { once: true })
  })
  aborted.catch(() => {})
  try {
    await Promise.race([story(), aborted])
  } catch (error) {
    result.unresolved++
    result.findings.push(String(error))
  } finally {
    // Whatever is broken is healed before anything is removed.
    over.abort(new Error('The run is over.'))
    await Promise.allSettled(injections)
    await watch.stop()
    result.twoLive += watch.twoLive().length
    result.findings.push(...watch.twoLive())
    if (watch.looks() < fewestLooks) {
      result.unresolved++
      result.findings.push(`Whether both copies were live could be looked at ${watch.looks()} times only.`)
    }
    result.recordsAcknowledged = scenario.records.acknowledged()
    checkAcknowledged(result)
    if (result.findings.length > 0 && !options.signal?.aborted) await keepTraces(stage, plan, say)
    await scenario.close().catch((error: unknown) => {
      result.unresolved++
      result.findings.push(String(error))
    })
    // A failure that the database outlived is retried until it moves.
    const keptCopy = stage.databaseWasLost() && result.verdict === 'NOT_MIGRATED' ? scenario.vm.uniqueId : null
    checkRemains(before, await inventory(site), keptCopy, result)
    await clearSite(site)
  }
  const look = async () => (await Promise.all([inventory(site), controlPlaneProcesses(), partsOfIsolatedNetworks()])).flat()
  await checkLeaks([...before, ...runningBefore], look, result)
  result.durationMs = Math.round(performance.now() - begun)
  return result
}

/** What is needed to see why, before the run's directory goes. */
async function keepTraces({ scenario, site }: Stage, plan: RunPlan, say: (line: string) => void): Promise<void> {
  const kept = `${scenario.directory}-kept`
  await mkdir(kept)
  await cp(`${scenario.directory}/control-plane.log`, `${kept}/control-plane.log`).catch(() => {})
  // What was written last is beside the database itself.
  for (const name of await readdir(`${scenario.directory}/data`).catch(() => []))
    if (name.startsWith('portolan.db')) await cp(`${scenario.directory}/data/${name}`, `${kept}/${name}`).catch(() => {})
  for (const path of await Array.fromAsync(
    glob('{east-disk/state/machines/*/serial.log,libvirt/pool/*-console.log}', { cwd: site.directory }),
  ))
    await cp(`${site.directory}/${path}`, `${kept}/${path.replaceAll('/', '-')}`).catch(() => {})
  say(`run ${plan.run}: the control plane's log and database, and what the machines wrote on their consoles, are kept in ${kept}`)
}
