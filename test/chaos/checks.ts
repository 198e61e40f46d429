/** What is looked at from outside once nothing moves any more: both providers, the clients' way to the workload, and the sites' inventories. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { inGuest, tracesInSource } from '../support/in-guest.ts'
import type { ScenarioSite } from '../support/scenario-site.ts'
import * as documents from './campaign-documents.ts'
import { copyAt, serving } from './copies.ts'
import type { RunResult } from './result.ts'
import type { Stage } from './stage.ts'

const leaksGoWithinMs = 60_000
/** The workload acknowledges up to two a second from before the migration begins. */
const fewestRecords = 3

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
  const note = (count: 'noneRecoverable' | 'twoLive' | 'recordsLost' | 'unresolved', by: number, finding: string) => {
    result[count] += by
    result.findings.push(finding)
  }
  if (twin && twin.power !== 'STOPPED')
    note('twoLive', 1, `The copy at ${other.name} is ${twin.power}, though the one at ${live.name} is the live one.`)
  if (moved) {
    const answer = await scenario.source.connection.virtualMachines.start({ operationId: randomUUID(), vmId: vm.vmId }).then(
      () => 'STARTED' as const,
      (error: unknown) => error,
    )
    if (answer === 'STARTED') note('twoLive', 1, 'The source could be started beside its successor.')
    else if (!(answer instanceof ProviderError && answer.code === 'CONFLICT'))
      note('unresolved', 1, `Whether the source's fence refuses a start can't be told: ${String(answer)}`)
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

/** Where next to nothing was acknowledged, that nothing was lost tells nothing. */
export function checkAcknowledged(result: RunResult): void {
  if (result.recordsAcknowledged >= fewestRecords) return
  result.unresolved++
  result.findings.push(`Only ${result.recordsAcknowledged} records were acknowledged in all of the run.`)
}

/** Of each kind in the inventory, what the machine that lives and the copy that is off may have; of all others nothing. The volumes are a disk and a console's log. */
const mostRemains: Record<string, number> = { 'QEMU process': 1, domain: 1, 'file of qemu': 1, interface: 1, volume: 2 }
/** What a copy that did not become the live one boots from, writes to, and is isolated on, until it is taken up or discarded. One that moved has its own disk and networks. */
const belongsToKeptCopy = (uniqueId: string) =>
  new RegExp(`^(?:volume .*-${uniqueId}-(?:landing-(?:kernel|initrd)|disk-0\\.overlay\\.qcow2)|network portolan-isolated-${uniqueId})$`)

/**
 * Before both copies are deleted, with whatever of them their providers delete along: overlays, landing images, test machines, networks of isolated copies. `keptCopy`: its unique id, where it
 * did not end with a machine that moved.
 */
export function checkRemains(before: readonly string[], present: readonly string[], keptCopy: string | null, result: RunResult): void {
  const ofKeptCopy = keptCopy === null ? null : belongsToKeptCopy(keptCopy)
  const remains = present.filter((thing) => !before.includes(thing) && !ofKeptCopy?.test(thing))
  const byKind = Map.groupBy(remains, (thing) => Object.keys(mostRemains).find((kind) => thing.startsWith(`${kind} `)) ?? 'other')
  for (const [kind, things] of byKind) {
    const tooMany = things.length - (mostRemains[kind] ?? 0)
    if (tooMany <= 0) continue
    result.leaks += tooMany
    result.findings.push(`Beside the two copies' own there is something of ${things.join(', ')}.`)
  }
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
