import type { ChildProcess } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { ProviderError } from '../../../src/plugin-sdk/index.ts'
import { queryStatus, withQmp } from '../qmp.ts'

const readyTimeoutMs = 60_000
const pollMs = 2

/** Waits until QEMU has taken in all the state that it was given. @throws ProviderError INTERNAL with QEMU's own words where it ended instead. */
export async function untilReady(
  started: { vm: string; process: ChildProcess | null; controlPath: string; logPath: string },
  signal: AbortSignal | undefined,
): Promise<void> {
  const { vm, process, controlPath, logPath } = started
  let ended = process?.exitCode !== null && process !== null
  process?.once('exit', () => (ended = true))
  process?.once('error', () => (ended = true))
  const deadline = performance.now() + readyTimeoutMs
  for (;;) {
    const noneWillCome = ended
    try {
      await withQmp(controlPath, { signal }, async (session) => {
        while ((await queryStatus(session)).status === 'inmigrate') await sleep(pollMs, undefined, { signal })
      })
      return
    } catch (error) {
      if (signal?.aborted || performance.now() > deadline) throw error
      if (noneWillCome) throw didNotStart(vm, await readFile(logPath, 'utf8').catch(() => ''))
    }
    await sleep(pollMs, undefined, { signal })
  }
}

function didNotStart(vm: string, complaint: string): ProviderError {
  const said = complaint.trim().split('\n').slice(-3).join(' / ').slice(0, 600)
  return new ProviderError(
    'INTERNAL',
    `QEMU did not start for ${vm}: ${said || 'it ended without a word, most likely for want of memory'}.`,
    {
      retryable: true,
      remedy: 'See qemu.log in its directory, and whether its limits leave QEMU room to start.',
    },
  )
}
