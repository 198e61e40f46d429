/**
 * QEMU's machine protocol over a unix socket: one JSON object a line. This file is its only user; it frames, and of answers' shapes it checks `query-status` only.
 * A QEMU socket serves one client at a time and keeps the others waiting, so sessions are short: connect, ask, hang up.
 */
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import { ProviderError } from '../../src/plugin-sdk/index.ts'

/** QEMU understood the command and refused it. `qemuClass` such as `DeviceNotFound` or `GenericError`. */
export class QmpError extends Error {
  override readonly name = 'QmpError'
  readonly qemuClass: string

  constructor(command: string, qemuClass: string, description: string) {
    super(`QEMU refused ${command}: ${description}`)
    this.qemuClass = qemuClass
  }
}

export interface QmpSession {
  /** Answers with the command's `return`. Throws QmpError when refused, ProviderError UNREACHABLE when the connection ends first. */
  execute<Result = unknown>(command: string, commandArguments?: Record<string, unknown>): Promise<Result>
}

interface Answer {
  QMP?: unknown
  return?: unknown
  error?: { class: string; desc: string }
  event?: string
}

/** Runs `work` in a session of its own. Throws ProviderError UNREACHABLE (retryable) when QEMU doesn't answer each line within `answerTimeoutMs`. */
export async function withQmp<Result>(
  socketPath: string,
  options: { signal?: AbortSignal | undefined; answerTimeoutMs?: number },
  work: (session: QmpSession) => Promise<Result>,
): Promise<Result> {
  const answerTimeoutMs = options.answerTimeoutMs ?? 30_000
  const socket = connect(socketPath)
  let waiting: { resolve(answer: Answer): void; reject(error: unknown): void } | undefined
  let failure: Error | undefined
  const fail = (error: Error) => {
    failure ??= error
    waiting?.reject(failure)
  }
  socket.on('error', (error) => fail(unreachable(error.message, error)))
  socket.on('close', () => fail(unreachable('it closed the connection')))
  const lines = createInterface({ input: socket })
  lines.on('line', (line) => {
    try {
      const answer = JSON.parse(line) as Answer
      if (answer.event === undefined) waiting?.resolve(answer)
    } catch (error) {
      fail(unreachable('it sent a line that is not JSON', error))
    }
  })
  // The socket's own error event feeds the line reader too; `fail` has it already.
  lines.on('error', () => undefined)
  const onAbort = () => fail(cancelled(options.signal?.reason))
  options.signal?.addEventListener('abort', onAbort, { once: true })

  const nextAnswer = async (send?: string) => {
    if (options.signal?.aborted) throw cancelled(options.signal.reason)
    if (failure) throw failure
    const timer = setTimeout(() => fail(unreachable(`no answer within ${answerTimeoutMs} ms`)), answerTimeoutMs)
    try {
      return await new Promise<Answer>((resolve, reject) => {
        waiting = { resolve, reject }
        if (send !== undefined) socket.write(send)
      })
    } finally {
      clearTimeout(timer)
      waiting = undefined
    }
  }
  const execute = async <Answered>(command: string, commandArguments?: Record<string, unknown>) => {
    const answer = await nextAnswer(`${JSON.stringify({ execute: command, arguments: commandArguments })}\n`)
    if (answer.error) throw new QmpError(command, answer.error.class, answer.error.desc)
    return answer.return as Answered
  }

  try {
    await nextAnswer()
    await execute('qmp_capabilities')
    return await work({ execute })
  } finally {
    options.signal?.removeEventListener('abort', onAbort)
    lines.close()
    socket.destroy()
  }
}

/** Whether the vCPUs run, and QEMU's word for it, such as `paused`. Throws ProviderError INTERNAL where the answer says neither. */
export async function queryStatus(session: QmpSession): Promise<{ running: boolean; status: string }> {
  const answer = await session.execute<{ running?: unknown; status?: unknown } | null | undefined>('query-status')
  const { running, status } = answer ?? {}
  if (typeof running !== 'boolean' || typeof status !== 'string') throw unreadable('query-status')
  return { running, status }
}

/** For an answer of a form that QEMU does not document. */
export function unreadable(command: string): ProviderError {
  return new ProviderError('INTERNAL', `QEMU's answer to ${command} can't be read: it has not the form that QEMU documents.`, {
    retryable: true,
    remedy: "Call again; when it lasts, see that QEMU is of the version that the plugin's README names.",
  })
}

function unreachable(why: string, cause?: unknown): ProviderError {
  return new ProviderError('UNREACHABLE', `QEMU's control socket could not be used: ${why}.`, {
    retryable: true,
    remedy: "Call again; when it lasts, see qemu.log in the virtual machine's directory.",
    cause,
  })
}

function cancelled(cause: unknown): ProviderError {
  return new ProviderError('CANCELLED', 'The call was cancelled while QEMU was being asked.', {
    retryable: true,
    remedy: 'Repeat the call with the same operation id to complete it, or undo it.',
    cause,
  })
}
