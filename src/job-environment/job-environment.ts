/**
 * The operating environment of a job's children: gives them their identities and tasks, carries what tasks say to each other and where they wait for each other,
 * and replaces a child that dies. It runs beside the control plane's workflow, holds nothing that isn't written down elsewhere but the tasks in flight, and
 * trusts no child.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { findStandstill } from '../domain/barrier-cycles.ts'
import type { TaskPeers } from '../domain/job.ts'
import type { FromChild, ToChild } from '../transfer/child-messages.ts'
import { createBarriers } from './barriers.ts'
import { openChildSession, type ChildChannel, type ChildSession } from './child-session.ts'
import { createDispatcher, type Blame, type Judgement, type PoisonPolicy } from './dispatcher.ts'
import { barrierMisused, mayNotTalk, programRefused, stuck, taskFailed, tooManyMessages } from './job-failures.ts'
import { createMailboxes } from './mailboxes.ts'
import { warmUp } from './warm-up.ts'

export interface EnvironmentTask {
  input: unknown
  interactsWith: readonly number[]
}

/** A child that runs, before anybody has spoken with it. */
export interface StartedChild {
  id: string
  /** A UUID: what the guest is to call itself. */
  uniqueId: string
  channel: ChildChannel
  name: string
  /** For its network card; null where it keeps the one it has. */
  mac: string | null
  /** It was not forked from one that is warm. Nobody else ends it when its time is over. */
  booted?: { warmUp: string | null; maxLifetimeMs: number }
}

export interface JobProgram {
  source: string
  shared: Record<string, string>
  taskTimeoutMs: number
}

export interface JobReport {
  started(childId: string, indices: readonly number[], attempt: number): void
  /** `tasksDone`: of that child so far. */
  done(childId: string, index: number, output: unknown, durationMs: number, tasksDone: number): void
  /** It failed or was killed, and will run again unless it is in what follows. */
  stumbled(index: number, blame: Blame): void
  ended(index: number, end: 'FAILED' | 'SKIPPED', why: string): void
  log(index: number, text: string): void
  /** From the request for it to its first answer, which is that it has its identity. */
  childReady(childId: string, readyMs: number): void
  childLost(childId: string, why: string): void
}

const handshakeTimeoutMs = 30_000
const programTimeoutMs = 60_000
/** The runtime ends a task that waits too long by itself; one that computes too long can only be ended with its child. */
const overdueMs = 1_000
const mostMessageBytes = 32 * 1024 ** 2
const forkAttempts = 5
const entropyBytes = 256

/** Runs until every task has ended. Rejects with a PortolanError where the job can't go on, and with the signal's reason when it is ended from outside; the caller removes the children then. */
export async function runJob(options: {
  components: readonly (readonly number[])[]
  /** Those that haven't ended. */
  tasks: ReadonlyMap<number, EnvironmentTask>
  ended: ReadonlySet<number>
  counted: ReadonlyMap<number, { failures: number; kills: number }>
  retries: number
  onPoisonTask: PoisonPolicy
  program: JobProgram
  /** Whether a task may send to any other, or only to those it is said to interact with. */
  peers: TaskPeers
  /** How many children work at one time. */
  children: number
  /** Begins a child of that place, of which there was another before when it is asked for again. */
  start: (place: number, signal: AbortSignal) => Promise<StartedChild>
  /** Ends it; must not throw. */
  remove: (childId: string) => Promise<void>
  report: JobReport
  signal: AbortSignal
}): Promise<void> {
  const { tasks, program, report } = options
  const dispatcher = createDispatcher({ ...options, now: () => performance.now() })
  const barriers = createBarriers()
  const mailboxes = createMailboxes(mostMessageBytes)
  const sessions = new Map<string, ChildSession & { tasksDone: number; end: (blame: Blame | null, why: string) => void }>()
  const over = new AbortController()
  const signal = AbortSignal.any([options.signal, over.signal])
  const { promise: finished, resolve, reject } = Promise.withResolvers<void>()
  let starting = 0
  if (dispatcher.remaining === 0) return

  function fail(error: unknown): void {
    reject(error)
    over.abort(error)
  }

  function settle(ended: Judgement['ended']): void {
    for (const { index, end, why } of ended) {
      mailboxes.ended(index)
      barriers.left(index)
      report.ended(index, end, why)
      if (end === 'FAILED') fail(taskFailed(index, why))
    }
    if (dispatcher.remaining === 0) resolve()
  }

  function feed(childId: string): void {
    const session = sessions.get(childId)
    if (!session) return
    const messages: ToChild[] = []
    for (const { tasks: indices, attempt } of dispatcher.next(childId)) {
      for (const index of indices) barriers.began(index)
      messages.push({ type: 'COMPONENT', tasks: indices.map((index) => ({ index, attempt, ...tasks.get(index)! })) })
      for (const index of indices) for (const message of mailboxes.began(index)) messages.push({ type: 'MESSAGE', ...message })
      report.started(childId, indices, attempt)
    }
    session.send(...messages)
  }

  /** Some may have become free for others. */
  function feedAll(): void {
    for (const childId of sessions.keys()) if (dispatcher.running(childId) === null) feed(childId)
    noticeStandstill()
  }

  function noticeStandstill(): void {
    if (starting > 0 || !barriers.inUse) return
    const running = [...sessions.keys()].flatMap((childId) => dispatcher.running(childId)?.tasks ?? [])
    const waits = running.map((index) => ({ index, wait: barriers.waitOf(index) }))
    // While one runs, others may follow it that come to a barrier.
    const standstill = waits.some(({ wait }) => wait === null)
      ? null
      : findStandstill(waits.map(({ index, wait }) => ({ index, wait: { at: 'BARRIER', ...wait! } })))
    if (standstill) fail(stuck(standstill.message))
  }

  /** Of the child's own tasks only. */
  function isOf(childId: string, index: number): boolean {
    return dispatcher.childOf(index) === childId
  }

  function mayTalk(from: number, to: number): boolean {
    return (
      options.peers === 'ALL' ||
      (tasks.get(from)?.interactsWith.includes(to) ?? false) ||
      (tasks.get(to)?.interactsWith.includes(from) ?? false)
    )
  }

  function heard(childId: string, message: FromChild): void {
    const session = sessions.get(childId)
    if (!session) return
    switch (message.type) {
      case 'RESULT': {
        const { index, attempt, output, durationMs } = message
        if (dispatcher.done(childId, index, attempt, durationMs)) {
          mailboxes.ended(index)
          barriers.left(index)
          report.done(childId, index, output, durationMs, ++session.tasksDone)
        }
        if (dispatcher.remaining === 0) return resolve()
        feed(childId)
        return noticeStandstill()
      }
      case 'TASK_FAILED': {
        const { index, attempt, message: why, timedOut } = message
        const judgement = dispatcher.failed(childId, index, attempt, why)
        if (!judgement) return
        const { ended, replaceChild } = judgement
        barriers.left(index)
        report.stumbled(index, { kind: 'failed', why })
        settle(ended)
        if (replaceChild) session.end(null, `Task ${index} failed, and others there wait for it.`)
        // Its own work may go on in the background.
        else if (timedOut) session.end(null, `Task ${index} did not end in its time.`)
        else feedAll()
        return
      }
      case 'LOG':
        if (isOf(childId, message.index)) report.log(message.index, message.text)
        return
      case 'BARRIER': {
        if (!isOf(childId, message.index)) return
        const { open, problem } = barriers.arrive(message.index, message.name, message.size)
        if (problem) return fail(barrierMisused(problem))
        for (const [child, indices] of Map.groupBy(open, (index) => dispatcher.childOf(index)))
          if (child) sessions.get(child)?.send({ type: 'BARRIER_OPEN', name: message.name, tasks: indices })
        return noticeStandstill()
      }
      case 'SEND': {
        const { from, to, body } = message
        if (!isOf(childId, from)) return
        if (!tasks.has(to) || !mayTalk(from, to)) return fail(mayNotTalk(from, to))
        try {
          if (!mailboxes.send({ from, to, body })) return
        } catch (error) {
          return fail(tooManyMessages(error))
        }
        const child = dispatcher.childOf(to)
        if (child) sessions.get(child)?.send({ type: 'MESSAGE', from, to, body })
        return
      }
      default:
        return
    }
  }

  /** One child's life. */
  async function live(place: number): Promise<void> {
    const since = performance.now()
    const child = await options.start(place, signal)
    let blame: Blame | null = { kind: 'killed', why: 'its child ended' }
    let why = ''
    let lifetime: NodeJS.Timeout | undefined
    try {
      const session = await openChildSession({ channel: child.channel, signal, onMessage: (message) => heard(child.id, message) })
      if (child.booted) await warmUp(session, child.booted.warmUp)
      const end = (reason: Blame | null, said: string) => {
        blame = reason
        why = said
        session.close()
      }
      if (child.booted)
        lifetime = setTimeout(
          () => end({ kind: 'killed', why: "its child's time was over" }, 'Its time was over.'),
          child.booted.maxLifetimeMs,
        )
      session.send({
        type: 'IDENTITY',
        id: child.uniqueId,
        name: child.name,
        mac: child.mac,
        unixMs: Date.now(),
        entropy: randomBytes(entropyBytes).toString('base64'),
      })
      await session.expect((message) => message.type === 'IDENTIFIED', handshakeTimeoutMs, 'that it has its identity')
      report.childReady(child.id, performance.now() - since)
      session.send({ type: 'PROGRAM', ...program })
      const answer = await session.expect(
        (message) => message.type === 'PROGRAM_READY' || message.type === 'PROGRAM_FAILED',
        programTimeoutMs,
        'that it has the program',
      )
      if (answer.type === 'PROGRAM_FAILED') return fail(programRefused(answer.message))
      sessions.set(child.id, {
        ...session,
        tasksDone: 0,
        end,
      })
      dispatcher.addChild(child.id)
      starting--
      feed(child.id)
      feedAll()
      const reason = await session.ended
      why ||= reason
    } catch (error) {
      why ||= `It did not come up: ${error instanceof Error ? error.message : String(error)}`
      throw error
    } finally {
      clearTimeout(lifetime)
      if (sessions.delete(child.id)) starting++
      if (!signal.aborted) {
        report.childLost(child.id, why)
        const ran = dispatcher.running(child.id)
        for (const index of ran?.tasks ?? []) {
          barriers.left(index)
          if (blame) report.stumbled(index, blame)
        }
        settle(dispatcher.removeChild(child.id, blame))
        feedAll()
      }
      await options.remove(child.id)
    }
  }

  /** Keeps one child at a time alive, until the job is over. Gives up where none can be had. */
  async function keep(place: number): Promise<void> {
    starting++
    for (let failures = 0; !signal.aborted;) {
      const before = dispatcher.remaining
      try {
        await live(place)
        failures = 0
      } catch (error) {
        if (signal.aborted) break
        if (dispatcher.remaining < before) failures = 0
        if (++failures === forkAttempts) {
          starting--
          throw error
        }
        await sleep(100 * 2 ** failures, undefined, { signal }).catch(() => {})
      }
    }
    starting--
  }

  const watch = setInterval(
    () => {
      for (const [childId, session] of sessions) {
        const run = dispatcher.running(childId)
        if (run && performance.now() - run.startedAtMs > program.taskTimeoutMs + overdueMs)
          session.end({ kind: 'failed', why: `it did not end within ${program.taskTimeoutMs} ms` }, 'A task there did not end in time.')
      }
    },
    Math.min(250, Math.max(20, program.taskTimeoutMs / 4)),
  )
  const ended = () => reject(options.signal.reason)
  options.signal.addEventListener('abort', ended, { once: true })
  if (options.signal.aborted) ended()

  const places = Array.from({ length: options.children }, (_, place) => keep(place))
  // One that can't be had leaves its work to the others; where all are gone the job ends with the last one's reason.
  void Promise.allSettled(places).then((outcomes) => fail(outcomes.find((outcome) => outcome.status === 'rejected')?.reason))
  try {
    await finished
  } finally {
    clearInterval(watch)
    options.signal.removeEventListener('abort', ended)
    over.abort(new Error('The job is over.'))
    await Promise.allSettled(places)
  }
}
