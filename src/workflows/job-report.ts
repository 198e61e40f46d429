import type { JobReport } from '../job-environment/job-environment.ts'
import type { Gathering } from './job-store.ts'

/** What the environment of a job's children tells, as rows. @param lost is told which children were. */
export function reportInto(gathering: Gathering, lost: Set<string>): JobReport {
  return {
    started(childId, indices) {
      const startedAtMs = Date.now()
      for (const index of indices) gathering.task(index, { state: 'RUNNING', childId, startedAtMs, attempts: 1 })
      gathering.child(childId, { state: 'BUSY' })
    },
    done(childId, index, output, durationMs, tasksDone) {
      gathering.task(index, { state: 'DONE', output, durationMs: Math.round(durationMs), endedAtMs: Date.now() })
      gathering.child(childId, { tasksDone })
    },
    stumbled(index, { kind, why }) {
      gathering.task(index, { state: 'PENDING', error: why, [kind === 'killed' ? 'kills' : 'failures']: 1 })
    },
    ended(index, end, why) {
      gathering.task(index, { state: end, error: why, endedAtMs: Date.now() })
      gathering.event({ kind: end === 'FAILED' ? 'TASK_FAILED' : 'TASK_SKIPPED', message: why, taskIndex: index })
    },
    log: (index, text) => gathering.log(index, text),
    childReady(childId, forkMs) {
      gathering.child(childId, { state: 'READY', forkMs: Math.round(forkMs) })
      gathering.event({ kind: 'CHILD_READY', message: `A child answered ${Math.round(forkMs)} ms after it was asked for.`, childId })
    },
    childLost(childId, why) {
      lost.add(childId)
      gathering.child(childId, { lossReason: why })
      gathering.event({ kind: 'CHILD_LOST', message: why, childId })
    },
  }
}
