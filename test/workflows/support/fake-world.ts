/**
 * Two clouds, a source machine and the agents in both guests, as plain state: in memory, or in a file that outlives the process of the control plane. The source's
 * workload writes whenever the world is looked at and nothing keeps it from it, so a copy is right only if nothing was written after it.
 *
 * The rules that must never be broken are checked at every change: see `violations`.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import type { PowerState, SiteRecord } from '../../../src/plugin-sdk/index.ts'
import type { RoundResult } from '../../../src/transfer/control-protocol.ts'

export interface DestinationMachine {
  uniqueId: string
  power: PowerState
  system: 'LANDING' | 'COPY'
  content: number
  sealed: boolean
  exposed: boolean
  overlay: boolean
  /** Of the landing image's agent; 1 where it isn't told. */
  agentStarts?: number
  /** `closed`: it can't be resumed either. */
  fence?: { id: string; closed: boolean }
  /** While it is adopted: as it was left. */
  left?: Omit<DestinationMachine, 'left'>
}

export interface WorldState {
  /** Grows with each write of the workload. */
  content: number
  source: {
    power: PowerState
    /** `closed`: it can't be resumed either. */
    fence: { id: string; closed: boolean } | null
    agentInstance: string | null
    freeze: { id: string; until: number; void: boolean } | null
  }
  machines: Record<string, DestinationMachine>
  /** The start of the destination's agent that was told last which disk it writes to. */
  receiver: string | null
  /** What the source's agent was told last, in bytes a second. */
  limit: number | null
  records: Record<string, SiteRecord>
  rounds: Record<string, RoundResult>
  operations: Record<string, unknown>
  calls: string[]
  violations: string[]
}

export interface FakeWorld {
  /** Reads, lets time pass, applies the change, checks the rules, and keeps it. */
  change<T>(call: string, apply: (state: WorldState) => T): T
  look(): WorldState
}

export const sourceUniqueId = '6f0d3c1e-0000-4000-8000-000000000001'

export function createFakeWorld(path?: string): FakeWorld {
  let memory: WorldState = {
    content: 1,
    source: { power: 'RUNNING', fence: null, agentInstance: null, freeze: null },
    machines: {},
    receiver: null,
    limit: null,
    records: {},
    rounds: {},
    operations: {},
    calls: [],
    violations: [],
  }
  const load = (): WorldState => (path ? (JSON.parse(readFileSync(path, 'utf8')) as WorldState) : memory)
  const save = (state: WorldState): void => {
    if (!path) return void (memory = state)
    writeFileSync(`${path}.next`, JSON.stringify(state))
    renameSync(`${path}.next`, path)
  }
  if (path) {
    try {
      load()
    } catch {
      save(memory)
    }
  }
  return {
    change(call, apply) {
      const state = structuredClone(load())
      passTime(state)
      state.calls.push(call)
      const result = apply(state)
      check(state, call)
      save(state)
      return result
    },
    look: load,
  }
}

/** The watchdog in the guest thaws when the lease has lapsed, if the guest runs at all; a guest that runs and isn't frozen writes. */
function passTime(state: WorldState): void {
  const { source } = state
  if (source.power !== 'RUNNING') return
  if (source.freeze && !source.freeze.void && Date.now() > source.freeze.until) source.freeze.void = true
  if (!source.freeze || source.freeze.void) state.content++
}

function check(state: WorldState, call: string): void {
  const exposed = Object.values(state.machines).filter((machine) => machine.exposed && machine.power === 'RUNNING')
  const sourceLive = state.source.power === 'RUNNING'
  if (sourceLive && exposed.length > 0) state.violations.push(`two live copies after ${call}`)
  if (exposed.length > 1) state.violations.push(`two exposed destinations after ${call}`)
  const committed = Object.values(state.records).some(({ content }) => content['decision'] === 'COMMITTED')
  for (const machine of exposed) {
    if (!committed) state.violations.push(`exposed without a commit record after ${call}`)
    if (machine.content !== state.content)
      state.violations.push(`the copy holds ${machine.content}, the source ${state.content} after ${call}`)
  }
  const rolledBack = Object.keys(state.records).some((key) => key.endsWith('.rolled-back'))
  if (committed && !rolledBack && sourceLive) state.violations.push(`the source runs after the commit, after ${call}`)
}
