/** A job's rows, written by the one workflow that runs it. What tasks report is gathered and written ten times a second, so that ten thousand of them cost few transactions. */
import { and, desc, eq, inArray, notInArray, sql } from 'drizzle-orm'
import type { Database, Transaction } from '../database/client.ts'
import { jobChildren, jobEvents, jobPrograms, jobs, jobTaskLogs, jobTasks } from '../database/tables/job.ts'
import { parentVms } from '../database/tables/parent-vm.ts'
import type { JobEventKind, JobProgram } from '../domain/job.ts'

export type JobRow = typeof jobs.$inferSelect
export type JobTaskRow = Pick<
  typeof jobTasks.$inferSelect,
  'index' | 'state' | 'component' | 'failures' | 'kills' | 'interactsWith' | 'input'
>
export type JobChildRow = typeof jobChildren.$inferSelect
type TaskPatch = Partial<Pick<typeof jobTasks.$inferSelect, 'state' | 'childId' | 'durationMs' | 'error' | 'output'>> & {
  startedAtMs?: number
  endedAtMs?: number
  /** Added to what is there. */
  attempts?: number
  failures?: number
  kills?: number
}
interface NewJobEvent {
  kind: JobEventKind
  message: string
  childId?: string
  taskIndex?: number
}

const flushMs = 100
const mostLogBytes = 65_536
/** Of what a guest says of a failure; it may say much more. */
const mostErrorLength = 4_000

export interface JobStore {
  read(jobId: string): Promise<JobRow>
  program(jobId: string): Promise<JobProgram>
  /** In order of their index. */
  tasks(jobId: string): Promise<JobTaskRow[]>
  /** Those that are neither lost nor deleted. */
  liveChildren(jobId: string): Promise<JobChildRow[]>
  nextOrdinal(jobId: string): Promise<number>
  /** False where it isn't READY any more, as that generation. */
  choose(jobId: string, parent: { id: string; generation: number }, reason: string): Promise<boolean>
  /** At once, with an event. */
  write(jobId: string, patch: Partial<JobRow>, events?: NewJobEvent[]): Promise<void>
  putChild(
    child: Pick<JobChildRow, 'id' | 'jobId' | 'cloudId' | 'ordinal' | 'state'> & Partial<JobChildRow>,
    event?: NewJobEvent,
  ): Promise<void>
  /** Tasks that were under way are pending again: their children are gone. */
  resetTasks(jobId: string): Promise<void>
  /** Gathers what is reported until it is closed. */
  gather(jobId: string): Gathering
}

export interface Gathering {
  task(index: number, patch: TaskPatch): void
  log(index: number, text: string): void
  event(event: NewJobEvent): void
  child(childId: string, patch: Partial<JobChildRow>): void
  /** Rejects where a write failed: what was gathered is lost then, and the tasks run again. */
  readonly failed: Promise<never>
  /** Writes what is left. */
  close(): Promise<void>
}

export function createJobStore(database: Database): JobStore {
  const changed = (jobId: string) => [{ topic: 'JOB' as const, subject: jobId }]

  async function addEvents(tx: Transaction, jobId: string, events: readonly NewJobEvent[]): Promise<void> {
    if (events.length === 0) return
    const [last] = await tx
      .select({ sequence: jobEvents.sequence })
      .from(jobEvents)
      .where(eq(jobEvents.jobId, jobId))
      .orderBy(desc(jobEvents.sequence))
      .limit(1)
    const at = new Date()
    const first = (last?.sequence ?? 0) + 1
    await tx.insert(jobEvents).values(events.map((event, place) => ({ jobId, sequence: first + place, at, ...event })))
  }

  async function upsertChild(tx: Transaction, child: Parameters<JobStore['putChild']>[0]): Promise<void> {
    await tx
      .insert(jobChildren)
      .values({ createdAt: new Date(), ...child })
      .onConflictDoUpdate({ target: jobChildren.id, set: child })
  }

  return {
    async read(jobId) {
      const [job] = await database.select().from(jobs).where(eq(jobs.id, jobId))
      if (!job) throw new Error(`There is no job ${jobId}.`)
      return job
    },
    async program(jobId) {
      const [program] = await database.select().from(jobPrograms).where(eq(jobPrograms.jobId, jobId))
      if (!program) throw new Error(`The job ${jobId} has no program.`)
      return program
    },
    tasks: (jobId) =>
      database
        .select({
          index: jobTasks.index,
          state: jobTasks.state,
          component: jobTasks.component,
          failures: jobTasks.failures,
          kills: jobTasks.kills,
          interactsWith: jobTasks.interactsWith,
          input: jobTasks.input,
        })
        .from(jobTasks)
        .where(eq(jobTasks.jobId, jobId))
        .orderBy(jobTasks.index),
    liveChildren: (jobId) =>
      database
        .select()
        .from(jobChildren)
        .where(and(eq(jobChildren.jobId, jobId), notInArray(jobChildren.state, ['LOST', 'DELETED']))),
    async nextOrdinal(jobId) {
      const [last] = await database
        .select({ ordinal: jobChildren.ordinal })
        .from(jobChildren)
        .where(eq(jobChildren.jobId, jobId))
        .orderBy(desc(jobChildren.ordinal))
        .limit(1)
      return (last?.ordinal ?? 0) + 1
    },
    choose: (jobId, { id, generation }, reason) =>
      database.transaction(async (tx) => {
        const [parent] = await tx.select().from(parentVms).where(eq(parentVms.id, id))
        if (parent?.state !== 'READY' || parent.generation !== generation) return false
        await tx
          .update(jobs)
          .set({ parentVmId: id, parentGeneration: generation, parentRecipe: parent.recipe, parentReason: reason, updatedAt: new Date() })
          .where(eq(jobs.id, jobId))
        await addEvents(tx, jobId, [{ kind: 'PARENT_CHOSEN', message: reason }])
        return true
      }, changed(jobId)),
    write: (jobId, patch, events = []) =>
      database.transaction(async (tx) => {
        await tx
          .update(jobs)
          .set({ ...patch, updatedAt: new Date() })
          .where(eq(jobs.id, jobId))
        await addEvents(tx, jobId, events)
      }, changed(jobId)),
    putChild: (child, event) =>
      database.transaction(async (tx) => {
        await upsertChild(tx, child)
        if (event) await addEvents(tx, child.jobId, [event])
      }, changed(child.jobId)),
    resetTasks: (jobId) =>
      database.write((orm) => [
        orm
          .update(jobTasks)
          .set({ state: 'PENDING', childId: null })
          .where(and(eq(jobTasks.jobId, jobId), inArray(jobTasks.state, ['RUNNING']))),
      ]),
    gather: (jobId) => createGathering(database, jobId, addEvents),
  }
}

function createGathering(
  database: Database,
  jobId: string,
  addEvents: (tx: Transaction, jobId: string, events: readonly NewJobEvent[]) => Promise<void>,
): Gathering {
  const failure = Promise.withResolvers<never>()
  failure.promise.catch(() => {})
  let tasks = new Map<number, TaskPatch>()
  let logs = new Map<number, string>()
  let children = new Map<string, Partial<JobChildRow>>()
  let events: NewJobEvent[] = []
  let writing: Promise<void> = Promise.resolve()

  function flush(): Promise<void> {
    if (tasks.size + logs.size + children.size + events.length === 0) return writing
    const batch = { tasks, logs, children, events }
    tasks = new Map()
    logs = new Map()
    children = new Map()
    events = []
    writing = writing.then(() =>
      database.transaction(
        async (tx) => {
          if (batch.tasks.size > 0) await tx.run(updateTasks(jobId, batch.tasks))
          for (const [index, text] of batch.logs) await tx.run(appendLog(jobId, index, text))
          for (const [id, patch] of batch.children) await tx.update(jobChildren).set(patch).where(eq(jobChildren.id, id))
          await addEvents(tx, jobId, batch.events)
          await tx.update(jobs).set({ updatedAt: new Date() }).where(eq(jobs.id, jobId))
        },
        [{ topic: 'JOB', subject: jobId }],
      ),
    )
    writing.catch((error: unknown) => failure.reject(error))
    return writing
  }

  const timer = setInterval(() => void flush().catch(() => {}), flushMs)
  return {
    task(index, { attempts = 0, failures = 0, kills = 0, error, ...patch }) {
      const before = tasks.get(index)
      const told = error == null ? {} : { error: error.slice(0, mostErrorLength) }
      const counts = {
        attempts: (before?.attempts ?? 0) + attempts,
        failures: (before?.failures ?? 0) + failures,
        kills: (before?.kills ?? 0) + kills,
      }
      tasks.set(index, { ...before, ...patch, ...told, ...counts })
    },
    log(index, text) {
      logs.set(index, `${logs.get(index) ?? ''}${text}`)
    },
    event(event) {
      events.push({ ...event, message: event.message.slice(0, mostErrorLength) })
    },
    child(childId, { lossReason, ...patch }) {
      const told = lossReason == null ? {} : { lossReason: lossReason.slice(0, mostErrorLength) }
      children.set(childId, { ...children.get(childId), ...patch, ...told })
    },
    failed: failure.promise,
    async close() {
      clearInterval(timer)
      await flush()
    },
  }
}

/**
 * One statement for all of them. What a patch doesn't name stays; a result that is there is never replaced. Were the patches not materialized, each of the job's tasks would be
 * looked for among them: two hundred times as slow for 10,000 tasks.
 */
function updateTasks(jobId: string, patches: ReadonlyMap<number, TaskPatch>) {
  const json = JSON.stringify(
    [...patches].map(([index, { output, ...patch }]) => ({
      index,
      ...patch,
      ...(output !== undefined && { output: JSON.stringify(output) }),
    })),
  )
  return sql`
    WITH patch(at, value) AS MATERIALIZED (SELECT CAST(value ->> 'index' AS INTEGER), value FROM json_each(${json}))
    UPDATE job_tasks SET
      state = COALESCE(patch.value ->> 'state', job_tasks.state),
      childId = COALESCE(patch.value ->> 'childId', job_tasks.childId),
      durationMs = COALESCE(patch.value ->> 'durationMs', job_tasks.durationMs),
      error = COALESCE(patch.value ->> 'error', job_tasks.error),
      output = COALESCE(patch.value ->> 'output', job_tasks.output),
      startedAt = COALESCE(patch.value ->> 'startedAtMs', job_tasks.startedAt),
      endedAt = COALESCE(patch.value ->> 'endedAtMs', job_tasks.endedAt),
      attempts = job_tasks.attempts + (patch.value ->> 'attempts'),
      failures = job_tasks.failures + (patch.value ->> 'failures'),
      kills = job_tasks.kills + (patch.value ->> 'kills')
    FROM patch
    WHERE job_tasks.jobId = ${jobId} AND job_tasks."index" = patch.at AND job_tasks.state NOT IN ('DONE', 'FAILED', 'SKIPPED')`
}

function appendLog(jobId: string, index: number, text: string) {
  const { text: logText, truncated } = jobTaskLogs
  return sql`
    INSERT INTO job_task_logs (jobId, "index", text, truncated)
    VALUES (${jobId}, ${index}, substr(${text}, 1, ${mostLogBytes}), ${text.length > mostLogBytes})
    ON CONFLICT (jobId, "index") DO UPDATE SET
      text = substr(${logText} || ${text}, 1, ${mostLogBytes}),
      truncated = ${truncated} OR length(${logText}) + length(${text}) > ${mostLogBytes}`
}
