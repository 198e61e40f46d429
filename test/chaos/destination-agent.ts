/**
 * `kill -9` of the agent in a destination's landing image, which nobody can log in to. So the campaign's landing image has one more program: it kills the agent when the machine's
 * cable is pulled for a moment, which can be done from outside.
 */
import { execFile } from 'node:child_process'
import { mkdir, readdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { withQmp } from '../../plugins/qemu/qmp.ts'
import { artifacts } from '../../setup/artifacts.ts'
import type { MigrationPhase } from '../../src/domain/migration.ts'
import { writeLandingInitrd } from '../../src/plugin-sdk/landing-initrd.ts'
import { copyAt } from './copies.ts'
import type { Stage } from './stage.ts'

const program = '/usr/local/lib/guest/kill-agent'
const inittab = `::respawn:/usr/local/lib/guest/run-agent
::respawn:/bin/acpid -f -l /dev/null
::respawn:${program}
`
/** It starts no program while nothing happens: ten of them a second take a fifth of a processor that is emulated. */
const script = `#!/bin/sh
[ -p /run/never ] || mkfifo /run/never
exec 3<>/run/never
pause() { read -r -t 0.2 nothing <&3; }
unplugged() { read -r state 2>/dev/null <"$1" && [ "$state" = 0 ]; }
while :; do
  pause
  for carrier in /sys/class/net/*/carrier; do
    unplugged "$carrier" || continue
    for process in /proc/[0-9]*; do
      grep -qs agent.mjs "$process/cmdline" && kill -9 "\${process#/proc/}"
    done
    while unplugged "$carrier"; do pause; done
  done
done
`
/** Later it is the copy that runs there. */
const whileLanding: ReadonlySet<string> = new Set<MigrationPhase>([
  'INSTALL_AGENTS',
  'CONNECT_AGENTS',
  'TRACK_CHANGES',
  'SYNC',
  'READY_TO_CUT_OVER',
  'ARM_FENCE',
  'FREEZE',
  'SEND_REMAINDER',
  'COMPARE_ROOTS',
  'SUSPEND_SOURCE',
  'SEAL_COPY',
])
const pulledForMs = 1_500
const diesWithinMs = 5_000
/** A libvirtd that was killed is started again. */
const siteReturnsWithinMs = 10_000
/** What the landing image writes on its console. */
const death = 'landing: the agent ended with'

/** Below `directory`: all that the set-up built, but for the landing image. @returns what is to be the cache directory of control planes. */
export async function cacheWithKillableAgent(directory: string): Promise<string> {
  const { cacheDirectory, landing } = artifacts()
  const cache = join(directory, 'cache')
  await mkdir(join(cache, 'landing'), { recursive: true })
  for (const name of await readdir(cacheDirectory)) if (name !== 'landing') await symlink(join(cacheDirectory, name), join(cache, name))
  await symlink(landing.kernelPath, join(cache, 'landing', 'kernel'))
  const files = [
    { path: '/etc/inittab', content: inittab, mode: 0o644 },
    { path: program, content: script, mode: 0o755 },
  ]
  await writeLandingInitrd(landing.initrdPath, files, join(cache, 'landing', 'initrd'))
  return cache
}

/**
 * The run's other fault may have just taken the control plane, the site's API or the machine: what can't be found has no agent to kill, and a cable that was pulled is plugged in again.
 * @returns whether it died; false where the destination doesn't run its landing image, or not any more.
 */
export async function killDestinationAgent(stage: Stage, migrationId: string): Promise<boolean> {
  const { destination, vm, progress } = stage.scenario
  const now = await progress(migrationId).catch(() => null)
  if (!now || !whileLanding.has(now.phase)) return false
  const copy = await copyAt(destination, vm.uniqueId).catch(() => null)
  if (copy?.power !== 'RUNNING') return false
  const deaths = async () => (await destination.connection.virtualMachines.console!({ vmId: copy.id })).text.split(death).length
  const plug =
    destination.pluginId === 'qemu'
      ? qemuCable(join(stage.site.directory, 'east', 'machines', copy.id))
      : libvirtCable(destination.options, copy.id)
  const before = await whileItRuns(stage, deaths)
  if (before === null || (await whileItRuns(stage, () => plug(false))) === null) return false
  await delay(pulledForMs)
  if ((await whileItRuns(stage, () => plug(true))) === null) return false
  for (const deadline = performance.now() + diesWithinMs; performance.now() < deadline; await delay(200))
    if (((await whileItRuns(stage, deaths)) ?? 0) > before) return true
  return false
}

/** Tried again while the site doesn't answer. @returns null once the copy is off. @throws what it last threw of a copy that runs. */
async function whileItRuns<Result>({ scenario: { destination, vm } }: Stage, deed: () => Promise<Result>): Promise<Result | null> {
  for (const deadline = performance.now() + siteReturnsWithinMs; ; await delay(500)) {
    try {
      return await deed()
    } catch (error) {
      const copy = await copyAt(destination, vm.uniqueId).catch(() => 'UNKNOWN' as const)
      if (copy !== 'UNKNOWN' && copy?.power !== 'RUNNING') return null
      if (performance.now() >= deadline) throw error
    }
  }
}

type Cable = (plugged: boolean) => Promise<void>

function qemuCable(machineDirectory: string): Cable {
  return (up) =>
    withQmp(join(machineDirectory, 'qmp.sock'), {}, async (session) => {
      await session.execute('set_link', { name: 'nic0', up })
    })
}

function libvirtCable(options: Record<string, unknown>, domain: string): Cable {
  const virsh = async (...words: string[]) =>
    (await promisify(execFile)('virsh', ['--quiet', '--connect', String(options['uri']), ...words], { timeout: 60_000 })).stdout
  return async (plugged) => {
    const [port] = (await virsh('domiflist', domain)).trim().split(/\s+/)
    await virsh('domif-setlink', domain, port!, plugged ? 'up' : 'down')
  }
}
