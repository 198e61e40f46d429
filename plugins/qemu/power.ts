import { setTimeout as sleep } from 'node:timers/promises'
import { type ProviderConnection, ProviderError } from '../../src/plugin-sdk/index.ts'
import { isHeld } from './describe.ts'
import { requireUnfenced } from './fencing.ts'
import { launch } from './launch.ts'
import type { MachineChange } from './machine-store.ts'
import { askStatus, control, endProcess, findProcess, isGoneWithin, type QemuProcess } from './qemu-process.ts'
import { queryStatus } from './qmp.ts'
import type { Site } from './site.ts'
import { removeTestMachine } from './test-boot.ts'

/** A guest may miss the power button while it boots. */
const pressAgainAfterMs = 10_000

type Power = Pick<ProviderConnection['virtualMachines'], 'start' | 'stop' | 'suspend' | 'resume'>

export function power(site: Site): Power {
  return {
    start: (operation) =>
      site.store.change('started', operation, async (change) => {
        await launch(site, change, operation.signal)
      }),

    stop: (operation) =>
      site.store.change('stopped', operation, async ({ directory, machine }) => {
        if (operation.force) {
          // First, since a caller that finds this VM off does not stop it again.
          if (machine.test) await removeTestMachine(site, machine.vmId, machine.test.testId, operation.signal)
          return endProcess(directory, operation.signal)
        }
        const process = await findProcess(directory)
        if (process) await pressPowerButton(machine.vmId, process, site.options.gracefulStopTimeoutMs, operation.signal)
      }),

    suspend: (operation) =>
      site.store.change('suspended', operation, async (change) => {
        const status = await control(await requireProcess(change), operation.signal, async (session) => {
          await session.execute('stop')
          return queryStatus(session)
        })
        if (!isHeld(status)) throw notHeld(change.machine.vmId, status.status)
      }),

    resume: (operation) =>
      site.store.change('resumed', operation, async (change) => {
        requireUnfenced(change.machine)
        if (change.machine.flattening) throw unfinishedFlattening(change.machine.vmId)
        await control(await requireProcess(change), operation.signal, (session) => session.execute('cont'))
      }),
  }
}

async function pressPowerButton(vmId: string, process: QemuProcess, timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
  if (!(await askStatus(process, signal)).running)
    throw new ProviderError('CONFLICT', `The virtual machine ${vmId} is suspended, so it can't be asked to power off.`, {
      retryable: false,
      remedy: 'Resume it first, or stop it with force. It is as it was.',
      path: ['vmId'],
    })
  const deadline = performance.now() + timeoutMs
  while (performance.now() < deadline) {
    try {
      await control(process, signal, (session) => session.execute('system_powerdown'))
    } catch (error) {
      // It may have ended between two presses.
      if (signal?.aborted) throw error
      await sleep(100, undefined, { signal })
    }
    if (await isGoneWithin(process, Math.min(pressAgainAfterMs, deadline - performance.now()), signal)) return
  }
  throw new ProviderError(
    'TIMED_OUT',
    `The guest of ${vmId} did not power off within ${timeoutMs / 1000} s of being asked, and is still running.`,
    {
      retryable: true,
      remedy: 'See what keeps it up, or stop it with force.',
      path: ['vmId'],
    },
  )
}

async function requireProcess({ directory, machine }: MachineChange): Promise<QemuProcess> {
  const process = await findProcess(directory)
  if (process) return process
  throw new ProviderError('CONFLICT', `The virtual machine ${machine.vmId} is powered off.`, {
    retryable: false,
    remedy: 'Start it first.',
    path: ['vmId'],
  })
}

/** QEMU answers `stop` with a success where it did nothing, as while the guest sleeps. */
function notHeld(vmId: string, status: string): ProviderError {
  return new ProviderError(
    'CONFLICT',
    `The virtual machine ${vmId} could not be suspended: QEMU says that it is ${JSON.stringify(status)}.`,
    {
      retryable: true,
      remedy: "Wake the guest, as system_wakeup on QEMU's status.sock does where it sleeps, and call again; or stop it with force.",
      path: ['vmId'],
    },
  )
}

/** Were the guest to write now, a crash could leave its overlay older than the disk below it. */
function unfinishedFlattening(vmId: string): ProviderError {
  return new ProviderError('CONFLICT', `The merge of the overlay of ${vmId} was interrupted, and holds the guest until it is completed.`, {
    retryable: false,
    remedy: 'Repeat flattenOverlay: it completes the merge and resumes the guest.',
    path: ['vmId'],
  })
}
