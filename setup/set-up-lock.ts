import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Runs `work` while no other set-up works in the same cache; waits for one that does, after a line to `log`.
 * The lock is the kernel's, held by a child that ends when this process does, so that nothing stale is ever left.
 */
export async function withSetUpLock<T>(
  cache: string,
  log: (line: string) => void,
  work: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  mkdirSync(cache, { recursive: true })
  const held = (await takeLock(cache, ['--nonblock'], signal)) ?? (await waitForLock(cache, log, signal))
  try {
    return await work()
  } finally {
    await held.release()
  }
}

async function waitForLock(cache: string, log: (line: string) => void, signal?: AbortSignal) {
  log(`another set-up is working in ${cache}: waiting for it`)
  const held = await takeLock(cache, [], signal)
  if (held) return held
  throw new Error(
    `The lock of the set-up in ${cache} could not be taken. Nothing was changed. Look whether flock (util-linux) works there.`,
  )
}

async function takeLock(cache: string, options: string[], signal?: AbortSignal) {
  const child = spawn('flock', [...options, join(cache, 'set-up.lock'), 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    signal,
  })
  const ended = new Promise<void>((done) => child.on('close', () => done()))
  const held = await new Promise<boolean>((done, fail) => {
    child.on('error', fail)
    child.stdout.once('data', () => done(true))
    child.on('close', () => done(false))
  })
  if (!held) return undefined
  return {
    release: async () => {
      child.stdin.end()
      await ended
    },
  }
}
