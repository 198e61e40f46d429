/** Runs one after the other on one pair of sites; a run that leaves anything wrong behind gets its successors new ones. */
import { appendFile, readFile } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import { openChaosSite, type ChaosSite } from './chaos-site.ts'
import { oneRun } from './one-run.ts'
import { planRun, type RunPlan } from './plan.ts'
import { isClean, newResult, unresolvedBy, type RunResult } from './result.ts'
import { totalsOf, type CampaignTotals } from './totals.ts'

export interface CampaignOptions {
  seed: string
  /** Numbers of the runs. */
  runs: readonly number[]
  commit: string
  patience: number
  /** Only this one. */
  fault?: string
  /** Aborted: all machines end, and what was run so far counts. */
  signal?: AbortSignal
  /** JSON lines of RunResult, added to. */
  stateFile?: string
  say(line: string): void
}

export async function runCampaign(options: CampaignOptions): Promise<CampaignTotals> {
  const { say } = options
  const finished = await readFinished(options)
  const results: RunResult[] = []
  let open: ChaosSite | null = null
  const close = async () => {
    const closing = open
    open = null
    await closing?.close()
  }
  try {
    for (const run of options.runs) {
      options.signal?.throwIfAborted()
      const plan = planRun(options.seed, run, options.fault)
      const before = finished.find((result) => isDeepStrictEqual(result.plan, plan))
      if (before) {
        results.push(before)
        continue
      }
      const story = plan.faults.map(
        ({ name, phase, delayMs, healAfterMs }) => `${name} in ${phase} + ${delayMs} ms, healed after ${healAfterMs} ms`,
      )
      say(`run ${run}, seed ${plan.seed}: from ${plan.from}; ${story.join('; ')}`)
      open ??= await openChaosSite()
      const begun = newResult(plan, options.commit)
      const result = await oneRun(begun, {
        site: open,
        patience: options.patience,
        say,
        ...(options.signal && { signal: options.signal }),
      }).catch((error: unknown) => unresolvedBy(begun, error))
      options.signal?.throwIfAborted()
      results.push(result)
      if (options.stateFile) await appendFile(options.stateFile, `${JSON.stringify(result)}\n`)
      say(
        `run ${run}: ${isClean(result) ? 'clean' : 'WRONG'} after ${Math.round(result.durationMs / 1000)} s; verdict ${result.verdict}; ${result.outcome}`,
      )
      for (const finding of result.findings) say(`run ${run}: ${finding}`)
      if (!isClean(result)) {
        say(`run ${run} again: ${commandFor(options, plan)}`)
        await close()
      }
    }
  } finally {
    await close()
  }
  return totalsOf(results)
}

/** What an earlier call has done of this commit; each run is known by its whole plan. */
async function readFinished({ stateFile, commit }: CampaignOptions): Promise<RunResult[]> {
  if (!stateFile) return []
  const text = await readFile(stateFile, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return ''
    throw error
  })
  const lines = text.split('\n').filter((line) => line !== '')
  return lines.map((line) => JSON.parse(line) as RunResult).filter((result) => result.commit === commit)
}

/** How to have a run again. */
export function commandFor({ fault, patience }: Pick<CampaignOptions, 'fault' | 'patience'>, { seed, run }: RunPlan): string {
  const options = [`--seed ${seed} --from-run ${run} --runs 1`, ...(fault ? [`--fault '${fault}'`] : [])]
  return `npm run chaos -- ${[...options, ...(patience === 1 ? [] : [`--patience ${patience}`])].join(' ')}`
}
