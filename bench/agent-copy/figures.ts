import { cpus, loadavg } from 'node:os'
import type { Contender, Copied } from './contender.ts'
import type { AgentLimit } from './measure-limit.ts'

type Measured = Copied & { guestCpuSeconds: number }
export type Figures = Record<Contender['name'], { first: Measured; delta: Measured | null }[]>

/** The one JSON line. Rates are MiB of disk a second, ratios above 1 mean that we are faster. */
export function summarise(figures: Figures, limits: AgentLimit[], conditions: { sizeMib: number; cpus: number }) {
  const of = (name: Contender['name']) => {
    const runs = figures[name]
    const deltas = runs.flatMap(({ delta }) => (delta ? [delta] : []))
    return {
      firstCopyMibPerSecond: round(conditions.sizeMib / median(runs.map(({ first }) => first.seconds))),
      firstCopyGuestCpuSeconds: round(median(runs.map(({ first }) => first.guestCpuSeconds))),
      firstCopyBytesSent: runs[0]?.first.bytesSent ?? null,
      deltaSeconds: deltas.length > 0 ? round(median(deltas.map(({ seconds }) => seconds))) : null,
      deltaGuestCpuSeconds: deltas.length > 0 ? round(median(deltas.map(({ guestCpuSeconds }) => guestCpuSeconds))) : null,
      deltaBytesSent: deltas[0]?.bytesSent ?? null,
      runs: runs.map(({ first, delta }) => ({ firstCopySeconds: round(first.seconds), deltaSeconds: delta ? round(delta.seconds) : null })),
    }
  }
  const [ours, rsync, nbdcopy] = [of('portolan'), of('rsync'), of('nbdcopy')]
  const stages = {
    readMibPerSecond: round(median(limits.map((limit) => limit.readMibPerSecond))),
    hashMibPerSecond: round(median(limits.map((limit) => limit.hashMibPerSecond))),
    encryptMibPerSecond: round(median(limits.map((limit) => limit.encryptMibPerSecond))),
  }
  const limit = Math.min(...Object.values(stages))
  return {
    bench: 'agent-copy',
    ours: { ...ours, limit: { ...stages, slowestMibPerSecond: limit } },
    peers: { rsync, nbdcopy },
    ratios: {
      firstCopyVsRsync: round(ours.firstCopyMibPerSecond / rsync.firstCopyMibPerSecond),
      firstCopyVsNbdcopy: round(ours.firstCopyMibPerSecond / nbdcopy.firstCopyMibPerSecond),
      deltaVsRsync: round((rsync.deltaSeconds ?? 0) / (ours.deltaSeconds ?? Number.NaN)),
      firstCopyVsLimit: round(ours.firstCopyMibPerSecond / limit),
    },
    conditions: {
      diskMib: conditions.sizeMib,
      changedShare: 0.01,
      guestCpus: conditions.cpus,
      cipher: 'ChaCha20-Poly1305',
      repetitions: limits.length,
      hostCpus: cpus().length,
      hostLoadAtEnd: round(loadavg()[0]!),
    },
  }
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

function round(value: number): number {
  return Math.round(value * 100) / 100
}
