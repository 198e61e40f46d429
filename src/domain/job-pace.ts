/** How fast a job goes, and how long it will take yet: by the mean since it began, which holds still where single tasks are long. */
import type { TaskState } from './job.ts'

export interface JobPace {
  /** Tasks that ended a second; null before the first. */
  tasksPerSecond: number | null
  /** Null where nothing is known to go by, and once it has ended. */
  etaMs: number | null
}

export function jobPace(
  job: { startedAt: Date | null; endedAt: Date | null },
  counts: Readonly<Partial<Record<TaskState, number>>>,
  now: Date,
): JobPace {
  const { PENDING = 0, RUNNING = 0, DONE = 0, FAILED = 0, SKIPPED = 0 } = counts
  const ended = DONE + FAILED + SKIPPED
  const elapsedMs = job.startedAt === null ? 0 : (job.endedAt ?? now).getTime() - job.startedAt.getTime()
  if (ended === 0 || elapsedMs <= 0) return { tasksPerSecond: null, etaMs: null }
  return { tasksPerSecond: (ended * 1000) / elapsedMs, etaMs: job.endedAt ? null : Math.round(((PENDING + RUNNING) * elapsedMs) / ended) }
}
