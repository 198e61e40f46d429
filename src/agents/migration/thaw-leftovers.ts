/** What a watchdog that was killed left frozen, as the files in its freeze's directory tell (thaw-watchdog.ts). File access is synchronous, as in freezer.ts. */
import { existsSync, readdirSync, readFileSync, readlinkSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { runTool } from './run-tool.ts'

const pollMs = 100
const unfreezeMs = 10_000

export function hasLeftovers(directory: string): boolean {
  return linesOf(directory, 'frozen').length + linesOf(directory, 'making').length > 0
}

/** Returns when nothing is frozen any more. Rejects where fsfreeze could not do its work: the files stay, and it can be tried again. Only once the watchdog has ended. */
export async function thawLeftovers(directory: string): Promise<void> {
  // Side by side: an inner one, whose disk is a file of an outer one, may have to wait for that.
  await Promise.all([...linesOf(directory, 'frozen').map(unfreeze), thawMaking(directory)])
  for (const name of ['frozen', 'making']) if (existsSync(join(directory, name))) writeFileSync(join(directory, name), '')
}

async function thawMaking(directory: string): Promise<void> {
  const making = linesOf(directory, 'making')
  if (making.length === 0) return
  // Who asks the kernel outlives the watchdog; what it still freezes can't be thawed yet.
  while (isWorkedIn(directory)) await sleep(pollMs)
  const code = Number(linesOf(directory, 'ended')[0] ?? 0)
  // One that another froze is that one's; of an asker that was killed nobody knows.
  if (code === 0 || code > 128) await Promise.all(making.map(unfreeze))
}

async function unfreeze(mount: string): Promise<void> {
  try {
    await runTool('fsfreeze', ['--unfreeze', mount], { timeoutMs: unfreezeMs })
  } catch (error) {
    // With an exit code it has asked, and the kernel says that it is not frozen, or not there.
    if (typeof ((error as Error).cause as { code?: unknown }).code !== 'number') throw error
  }
}

function isWorkedIn(directory: string): boolean {
  const own = realpathSync(directory)
  return readdirSync('/proc').some((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/cwd`) === own
    } catch {
      return false
    }
  })
}

function linesOf(directory: string, name: string): string[] {
  const path = join(directory, name)
  return existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : []
}
