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
import { hasLeftovers, thawLeftovers } from './thaw-leftovers.ts'
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
  directory: string
  /** When all is frozen. Throws TransferError FREEZE_FAILED once nothing is any more. */
  begun: Promise<{ frozen: string[]; freezeMs: number }>
  isFrozen(): boolean
  /** True from the first moment at which it may not have held. */
  isVoid(): boolean
  isOver(): boolean
  /** Once the watchdog has ended, and what it left frozen, if it was killed, is thawed too. */
  thawed(): Promise<void>
}

const pollMs = 20
const lapsePollMs = 100

/** `directory` is on tmpfs and belongs to the agent. Each freeze has a directory of its own in it, which tells what is frozen, for whoever cleans up after a killed agent. */
export function createFreezer(directory: string): Freezer {
  const freezes = new Map<string, Freeze>()
  const thawedBefore = new Set<string>()
  mkdirSync(directory, { recursive: true, mode: 0o700 })

  function begin(mounts: string[], leaseMs: number): Freeze {
    const startedAt = performance.now()
    const own = join(directory, `freeze-${freezes.size}`)
    rmSync(own, { recursive: true, force: true })
    mkdirSync(own, { mode: 0o700 })
    writeLease(own, leaseMs)
    const watchdog = spawn('sh', ['-c', thawWatchdogScript, 'portolan-thaw', own, ...mounts], {
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
    // One at a time: a second one, slower, might thaw what the next freeze has frozen.
    let thawing: Promise<void> | null = null
    const thawed = async () => {
      await exited
      await (thawing ??= thawLeftovers(own).finally(() => (thawing = null)))
    }
    // Not before the lease has run out, on which the control plane may rely.
    const thawOnceLapsed = async () => {
      await exited
      while (hasLeftovers(own)) {
        if (uptimeHundredths() >= Number(readOr(join(own, 'lease'), '0'))) await thawed().catch(() => {})
        await sleep(lapsePollMs, undefined, { ref: false })
      }
    }
    void thawOnceLapsed()
    const result = () => readOr(join(own, 'result'), '').trim()
    const untilFrozen = async () => {
      const waits = () => running && result() === ''
      while (waits()) await sleep(pollMs)
      if (result() === 'frozen') return { frozen: mounts, freezeMs: Math.round(performance.now() - startedAt) }
      await thawed()
      throw notFrozen(result(), readOr(join(own, 'errors'), ''))
    }
    const begun = untilFrozen()
    begun.catch(() => {})
    return {
      directory: own,
      begun,
      isFrozen: () => result() === 'frozen',
      isVoid: () => existsSync(join(own, 'void')) || !running,
      isOver: () => !running && !hasLeftovers(own),
      thawed,
    }
  }

  async function thaw(freezeId: string): Promise<boolean> {
    const freeze = freezes.get(freezeId)
    if (!freeze) {
      thawedBefore.add(freezeId)
      return false
    }
    const held = freeze.isFrozen() && !freeze.isVoid()
    writeFileSync(join(freeze.directory, 'thaw'), '')
    await freeze.thawed()
    return held
  }

  return {
    async freeze(freezeId, mounts, leaseMs) {
      // Whoever gave up on it while the mounts were looked up has no use for it any more.
      if (thawedBefore.has(freezeId)) throw voidFreeze(freezeId)
      let freeze = freezes.get(freezeId)
      if (!freeze) {
        // Of what it is still freezing nobody else could tell whether it is frozen.
        if ([...freezes.values()].some((earlier) => !earlier.isOver())) throw stillThawing()
        if (mounts.length === 0) throw nothingToFreeze()
        freeze = begin(mounts, leaseMs)
        freezes.set(freezeId, freeze)
      }
      const result = await freeze.begun
      if (freeze.isVoid()) throw voidFreeze(freezeId)
      return result
    },
    async renew(freezeId, leaseMs) {
      const freeze = freezes.get(freezeId)
      if (!freeze?.isFrozen() || freeze.isVoid()) return false
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
  if (result === 'failed lease')
    return new TransferError(
      'FREEZE_FAILED',
      "The source's file systems could not all be frozen while the lease held: one waited for its writers. They are thawed, and the guest goes on.",
      { retryable: true },
    )
  const where = result.startsWith('failed ') ? result.slice('failed '.length) : 'the watchdog did not run'
  return new TransferError(
    'FREEZE_FAILED',
    `The source's file systems can't be frozen (${where}): ${errors.trim() || 'no reason given'}. They are thawed, and the guest goes on.`,
    {
      retryable: true,
    },
  )
}

function nothingToFreeze(): TransferError {
  return new TransferError(
    'FREEZE_FAILED',
    "The source's agent sees no file system of the disk that is mounted to be written to, so a freeze would hold nobody off. Nothing was frozen. Mount one in the mount namespace of the guest's init, and writable, then try again.",
    { retryable: false },
  )
}

function stillThawing(): TransferError {
  return new TransferError(
    'FREEZE_FAILED',
    'An earlier freeze of the source is not over yet: a file system waits for its writers to be frozen and is thawed as soon as it is, or what was frozen waits for its lease to run out. Nothing else was frozen.',
    { retryable: true },
  )
}

function voidFreeze(freezeId: string): TransferError {
  return new TransferError(
    'FREEZE_VOID',
    `Freeze ${freezeId} is over: it was thawed, or its lease lapsed. The guest goes on; begin another freeze.`,
    { retryable: false },
  )
}
