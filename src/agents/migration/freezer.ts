/**
 * Freezes file systems under a lease. All file access here is synchronous, on tmpfs: the agent's thread pool may be blocked by others' writes to what is frozen.
 *
 *   freezing -> held -> void      void is for ever: a freezeId that was void once is never held again
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { TransferError } from '../../transfer/transfer-error.ts'
import { thawWatchdogScript } from './thaw-watchdog.ts'

export interface Freezer {
  /** Asked again with the same id, answers as the first time while the freeze holds. Throws TransferError FREEZE_FAILED (nothing stays frozen) or FREEZE_VOID. */
  freeze(freezeId: string, mounts: string[], leaseMs: number): Promise<{ frozen: string[]; freezeMs: number }>
  /** False once the freeze was void at any moment. True means that it holds for `leaseMs` from now on, whatever happens to the agent. */
  renew(freezeId: string, leaseMs: number): Promise<boolean>
  /** Returns when everything is thawed; true when the freeze had held until now. What was thawed before it was frozen never is. */
  thaw(freezeId: string): Promise<boolean>
}

interface Freeze {
  freezeId: string
  directory: string
  result: { frozen: string[]; freezeMs: number }
  /** True from the first moment at which it may not have held. */
  isVoid(): boolean
  exited: Promise<void>
}

const pollMs = 20
/** fsfreeze writes back all that is dirty first. */
const freezeWithinMs = 60_000

/** `directory` is on tmpfs and belongs to the agent. Its file `frozen` lists what is frozen, for whoever cleans up after a killed agent. */
export function createFreezer(directory: string): Freezer {
  const freezes = new Map<string, Promise<Freeze>>()
  const thawedBefore = new Set<string>()
  mkdirSync(directory, { recursive: true, mode: 0o700 })

  async function begin(freezeId: string, mounts: string[], leaseMs: number): Promise<Freeze> {
    const startedAt = performance.now()
    const own = join(directory, `freeze-${freezes.size}`)
    rmSync(own, { recursive: true, force: true })
    mkdirSync(own, { mode: 0o700 })
    writeLease(own, leaseMs)
    const watchdog = spawn('sh', ['-c', thawWatchdogScript, 'portolan-thaw', own, join(directory, 'frozen'), ...mounts], {
      detached: true,
      stdio: 'ignore',
      cwd: own,
    })
    let running = true
    const exited = new Promise<void>((resolve) => {
      const done = () => {
        running = false
        resolve()
      }
      watchdog.once('exit', done).once('error', done)
    })
    watchdog.unref()
    const isVoid = () => existsSync(join(own, 'void')) || !running
    const until = performance.now() + freezeWithinMs
    const result = () => readOr(join(own, 'result'), '').trim()
    const waits = () => running && result() === '' && performance.now() < until
    while (waits()) await sleep(pollMs)
    if (result() !== 'frozen') {
      writeFileSync(join(own, 'thaw'), '')
      await exited
      throw notFrozen(result(), readOr(join(own, 'errors'), ''))
    }
    return { freezeId, directory: own, result: { frozen: mounts, freezeMs: Math.round(performance.now() - startedAt) }, isVoid, exited }
  }

  async function thaw(freezeId: string): Promise<boolean> {
    const begun = freezes.get(freezeId)
    if (!begun) {
      thawedBefore.add(freezeId)
      return false
    }
    const freeze = await begun.catch(() => null)
    if (!freeze) return false
    const held = !freeze.isVoid()
    writeFileSync(join(freeze.directory, 'thaw'), '')
    await freeze.exited
    return held
  }

  return {
    async freeze(freezeId, mounts, leaseMs) {
      // Whoever gave up on it while the mounts were looked up has no use for it any more.
      if (thawedBefore.has(freezeId)) throw voidFreeze(freezeId)
      let begun = freezes.get(freezeId)
      if (!begun) {
        begun = begin(freezeId, mounts, leaseMs)
        freezes.set(freezeId, begun)
      }
      const freeze = await begun
      if (freeze.isVoid()) throw voidFreeze(freezeId)
      return freeze.result
    },
    async renew(freezeId, leaseMs) {
      const freeze = await freezes.get(freezeId)?.catch(() => null)
      if (!freeze || freeze.isVoid()) return false
      const lease = writeLease(freeze.directory, leaseMs)
      // Held only once the watchdog has taken the new lease: before that it may be about to thaw.
      while (!freeze.isVoid()) {
        if (Number(readOr(join(freeze.directory, 'ack'), '0')) >= lease) return !freeze.isVoid()
        await sleep(pollMs)
      }
      return false
    },
    thaw,
  }
}

/** Never shortens a lease: a late renewal of an older request must not. */
function writeLease(directory: string, leaseMs: number): number {
  const path = join(directory, 'lease')
  const before = Number(readOr(path, '0'))
  const lease = Math.max(before, uptimeHundredths() + Math.floor(leaseMs / 10))
  if (lease === before) return lease
  writeFileSync(`${path}.new`, `${lease}\n`)
  renameSync(`${path}.new`, path)
  return lease
}

function uptimeHundredths(): number {
  return Math.round(Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]) * 100)
}

function readOr(path: string, otherwise: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return otherwise
    throw error
  }
}

function notFrozen(result: string, errors: string): TransferError {
  const where = result.startsWith('failed ') ? result.slice('failed '.length) : 'the watchdog did not run'
  return new TransferError(
    'FREEZE_FAILED',
    `The source's file systems can't be frozen (${where}): ${errors.trim() || 'no reason given'}. They are thawed, and the guest goes on.`,
    {
      retryable: true,
    },
  )
}

function voidFreeze(freezeId: string): TransferError {
  return new TransferError(
    'FREEZE_VOID',
    `Freeze ${freezeId} is over: it was thawed, or its lease lapsed. The guest goes on; begin another freeze.`,
    { retryable: false },
  )
}
