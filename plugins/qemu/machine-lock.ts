/**
 * One change of a VM at a time, over all plugin processes. The kernel keeps the lock (flock): a process that dies lets go at once, and no
 * stale lock is ever judged. Node has no flock call, so a child holds it for as long as its standard input is open, which ends with us.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { ProviderError } from '../../src/plugin-sdk/index.ts'

const lockTimeoutSeconds = 300

/**
 * Runs `work` while the file's lock is held. Throws TIMED_OUT (retryable) when somebody else holds it for `waitSeconds`, 5 minutes by default, and
 * CANCELLED when aborted while waiting.
 */
export async function withLock<Result>(
  lockPath: string,
  signal: AbortSignal | undefined,
  work: () => Promise<Result>,
  waitSeconds = lockTimeoutSeconds,
): Promise<Result> {
  const holder = spawn('flock', ['--timeout', String(waitSeconds), '--no-fork', lockPath, 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let complaint = ''
  holder.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()))
  const ended = new Promise<void>((resolve) => {
    holder.once('error', (error) => {
      complaint += error.message
      resolve()
    })
    holder.once('close', () => resolve())
  })
  const release = () => {
    holder.stdin.destroy()
    holder.kill('SIGKILL')
  }
  signal?.addEventListener('abort', release, { once: true })
  try {
    const held = await Promise.race([once(holder.stdout, 'data').then(() => true), ended.then(() => false)])
    if (!held || signal?.aborted) throw notHeld(lockPath, complaint, signal, waitSeconds)
    signal?.removeEventListener('abort', release)
    return await work()
  } finally {
    signal?.removeEventListener('abort', release)
    release()
    await ended
  }
}

function notHeld(lockPath: string, complaint: string, signal: AbortSignal | undefined, waitSeconds: number): ProviderError {
  if (signal?.aborted)
    return new ProviderError('CANCELLED', 'The call was cancelled while it waited for another change of the same virtual machine.', {
      retryable: true,
      remedy: 'Nothing was changed; call again.',
      cause: signal.reason,
    })
  return new ProviderError(
    'TIMED_OUT',
    `The lock ${lockPath} could not be taken within ${waitSeconds} s: ${complaint.trim() || 'another change of the same virtual machine is still running'}.`,
    {
      retryable: true,
      remedy: 'Wait for the other change to end and call again; flock (util-linux) must be installed.',
    },
  )
}
