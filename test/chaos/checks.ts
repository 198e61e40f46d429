/** What is looked at from outside once nothing moves any more: both providers, the clients' way to the workload, and the sites' inventories. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { inGuest, tracesInSource } from '../support/in-guest.ts'
import type { ScenarioSite } from '../support/scenario-site.ts'
import * as documents from './campaign-documents.ts'
import { copyAt, serving } from './copies.ts'
import type { RunResult } from './result.ts'
import type { Stage } from './stage.ts'

const leaksGoWithinMs = 60_000

export async function verdictOf({ scenario }: Stage, id: string): Promise<documents.Verdict['verdict'] | null> {
  const { migrationVerdicts } = await scenario
    .api()
    .run<{ migrationVerdicts: documents.Verdict[] }>(documents.verdicts, { migrationIds: [id] })
  return migrationVerdicts[0]?.verdict ?? null
}

/**
 * The copy that should be live is, or can be started as its owner would, and has every acknowledged record; the other one is not, and where it is fenced can't be
 * started. A machine whose host lost its power is off, and nobody but its owner starts it.
 */
export async function checkCopies(scenario: ScenarioSite, moved: boolean, timeoutMs: number, result: RunResult): Promise<void> {
  const { vm, records } = scenario
  const [live, other] = moved ? [scenario.destination, scenario.source] : [scenario.source, scenario.destination]
  const [one, twin] = [await copyAt(live, vm.uniqueId), await copyAt(other, vm.uniqueId)]
  const note = (count: 'noneRecoverable' | 'twoLive' | 'recordsLost', by: number, finding: string) => {
    result[count] += by
    result.findings.push(finding)
  }
  if (twin && twin.power !== 'STOPPED')
    note('twoLive', 1, `The copy at ${other.name} is ${twin.power}, though the one at ${live.name} is the live one.`)
  if (moved) {
    const started = await scenario.source.connection.virtualMachines.start({ operationId: randomUUID(), vmId: vm.vmId }).then(
      () => true,
      () => false,
    )
    if (started) note('twoLive', 1, 'The source could be started beside its successor.')
  }
  if (one?.power === 'STOPPED')
    await live.connection.virtualMachines
      .start({ operationId: randomUUID(), vmId: one.id })
      .catch((error: unknown) => result.findings.push(`The copy at ${live.name} is off, and can't be started: ${String(error)}`))
  const endpoint = await serving(live, vm.uniqueId, timeoutMs)
  if (!endpoint) {
    const { power } = (await copyAt(live, vm.uniqueId)) ?? { power: 'gone' }
    return note('noneRecoverable', 1, `The copy at ${live.name} is ${power}, and does not serve.`)
  }
  records.moveTo(endpoint)
  if (!moved) {
    const traces = (await inGuest(live, one?.id ?? vm.vmId, tracesInSource)).split('\n').filter((line) => line.includes('portolan'))
    result.leaks += traces.length
    if (traces.length > 0) result.findings.push(`Left in the source: ${traces.join(', ')}.`)
  }
  const acknowledged = records.acknowledged()
  const found = await records.count()
  if (found < acknowledged)
    note('recordsLost', acknowledged - found, `${found} of ${acknowledged} acknowledged records are at ${live.name}.`)
}

/** What goes by itself, such as a process that ends, is given a moment. */
export async function checkLeaks(before: readonly string[], look: () => Promise<string[]>, result: RunResult): Promise<void> {
  for (const deadline = performance.now() + leaksGoWithinMs; ;) {
    const leaked = (await look()).filter((thing) => !before.includes(thing))
    if (leaked.length === 0) return
    if (performance.now() > deadline) {
      result.leaks += leaked.length
      result.findings.push(`Left behind: ${leaked.join(', ')}.`)
      return
    }
    await delay(1_000)
  }
}
