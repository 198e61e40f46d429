import { counted, isClean, noCounts, type Counts, type RunResult } from './result.ts'

export interface CampaignTotals extends Counts {
  runs: number
  /** That came. */
  faults: number
  /** Of each fault. What was planned comes only where what it breaks is there in time. */
  byFault: Record<string, { planned: number; came: number }>
  /** In which nothing came, so that they tell only that nothing was broken. */
  runsWithoutFault: number
  /** How many retries `recopiedShareMax` was measured for. */
  retriesMeasured: number
  /** The largest share of verified blocks that any retry sent again. */
  recopiedShareMax: number
  /** Whether all is zero, and no retry sent more than 5 % again. */
  clean: boolean
}

export function totalsOf(results: readonly RunResult[]): CampaignTotals {
  const totals: CampaignTotals = {
    runs: results.length,
    faults: 0,
    ...noCounts(),
    recopiedShareMax: 0,
    retriesMeasured: 0,
    runsWithoutFault: 0,
    byFault: {},
    clean: results.length > 0 && results.every(isClean),
  }
  for (const result of results) {
    for (const name of counted) totals[name] += result[name]
    const came = result.injectedIn.map((phase) => phase !== null)
    totals.faults += came.filter(Boolean).length
    if (!came.includes(true)) totals.runsWithoutFault++
    for (const [index, { name }] of result.plan.faults.entries()) {
      const counts = (totals.byFault[name] ??= { planned: 0, came: 0 })
      counts.planned++
      if (came[index]) counts.came++
    }
    if (result.recopiedShare === null) continue
    totals.retriesMeasured++
    totals.recopiedShareMax = Math.max(totals.recopiedShareMax, result.recopiedShare)
  }
  return totals
}
