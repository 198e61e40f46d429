/** The faults of the campaign, as data. Each is injected into one run, and gives the function that heals it, if it needs any. */
import { join } from 'node:path'
import type { DemoCloud } from '../../src/cli/demo-site.ts'
import { inGuest, signalAgent } from '../support/in-guest.ts'
import { killControlPlane, killEngine, signalProcess } from '../support/kill.ts'
import { attestedThoughItReturns } from './attested-source.ts'
import { killDestinationAgent } from './destination-agent.ts'
import { cutLinks, stallLinks } from './machine-links.ts'
import type { PlannedFault } from './plan.ts'
import { machineProcesses } from './processes.ts'
import type { Stage } from './stage.ts'

export interface Fault {
  name: string
  /** The cloud that the source has to be in for it to be possible. */
  needs?: 'east' | 'west'
  /** Two faults that act on the same thing are never in one run. */
  acts?: 'SITE' | 'DATABASE'
  /** NOTHING_THERE: what it breaks isn't there, or can't be reached, so nothing was done. HEALS_BY_ITSELF, or what heals it. */
  inject(stage: Stage, occasion: Occasion): Promise<Injected>
}

export interface Occasion extends Pick<PlannedFault, 'healAfterMs' | 'direction'> {
  migrationId: string
  /** For the run's log. */
  say(line: string): void
}

export type Injected = 'NOTHING_THERE' | 'HEALS_BY_ITSELF' | (() => Promise<unknown>)

export const faults: readonly Fault[] = [
  {
    name: 'control plane killed',
    acts: 'DATABASE',
    async inject(stage) {
      await killControlPlane(stage.scenario.controlPlane())
      return () => stage.restartControlPlane()
    },
  },
  {
    name: 'engine killed',
    async inject({ scenario }) {
      return did((await killEngine(scenario.controlPlane())) > 0)
    },
  },
  { name: 'source agent killed', inject: (stage) => inSource(stage, signalAgent('KILL')) },
  { name: 'destination agent killed', inject: async (stage, { migrationId }) => did(await killDestinationAgent(stage, migrationId)) },
  { name: 'source agent held', inject: (stage, { healAfterMs }) => inSource(stage, held(healAfterMs)) },
  { name: 'source machine killed', inject: ({ scenario, site }) => killMachine(site.directory, scenario.source, scenario.vm.uniqueId) },
  {
    name: 'destination machine killed',
    inject: ({ scenario, site }) => killMachine(site.directory, scenario.destination, scenario.vm.uniqueId),
  },
  {
    name: 'libvirtd killed',
    acts: 'SITE',
    async inject({ site }) {
      await site.killLibvirtd()
      return 'HEALS_BY_ITSELF'
    },
  },
  {
    name: 'power loss of the source host',
    acts: 'SITE',
    async inject({ scenario, site }) {
      await site.cutPower(scenario.source)
      return () => site.restorePower(scenario.source)
    },
  },
  {
    name: 'power loss of the source host, which somebody attests to be dead though it returns',
    acts: 'SITE',
    inject: (stage, { migrationId, say }) => attestedThoughItReturns(stage, migrationId, say),
  },
  {
    name: 'source site partitioned, alive and serving',
    acts: 'SITE',
    async inject(stage, { healAfterMs, say }) {
      const { scenario, site } = stage
      // It is a partition of the site's API all the same.
      if ((await inSource(stage, held(healAfterMs))) === 'NOTHING_THERE') say("the source's agent could not be held, and stays in reach")
      await site.cutOff(scenario.source)
      return () => site.reconnect(scenario.source)
    },
  },
  { name: 'link cut', inject: cutLinks },
  { name: 'link stalled', inject: stallLinks },
  {
    name: 'disk full at the destination',
    needs: 'west',
    async inject({ site }) {
      await site.fillDisk()
      return () => site.freeDisk()
    },
  },
  {
    name: 'database gone',
    acts: 'DATABASE',
    async inject(stage) {
      await stage.loseDatabase()
      return () => stage.startWithEmptyDatabase()
    },
  },
  {
    name: 'clock jump',
    inject: (stage, { direction }) => inSource(stage, `date -s "@$(($(date +%s) + ${direction * clockJumpS}))"`),
  },
]

/** Somebody who logs in to a guest that stands still waits for long. */
const loginWithinMs = 20_000
const clockJumpS = 7_200

function did(something: boolean): Injected {
  return something ? 'HEALS_BY_ITSELF' : 'NOTHING_THERE'
}

/** In the source, where it can be logged in to; a guest without an agent has none to signal. */
async function inSource({ scenario }: Stage, script: string): Promise<Injected> {
  const ran = inGuest(scenario.source, scenario.vm.vmId, script, loginWithinMs)
  return ran.then(
    () => did(true),
    () => did(false),
  )
}

/** Its end is in the guest too: whatever becomes of the way in, the agent goes on. */
function held(forMs: number): string {
  return `read -r held _ <${agentProcess} && kill -STOP "$held" && (setsid sh -c "sleep ${Math.ceil(forMs / 1000)}; kill -CONT $held" </dev/null >/dev/null 2>&1 &)`
}
const agentProcess = '/run/portolan-agent/process'

/** kill -9 of the copy at one cloud; both have the same unique id. */
async function killMachine(siteDirectory: string, { pluginId }: DemoCloud, uniqueId: string): Promise<Injected> {
  const directory = join(siteDirectory, pluginId === 'qemu' ? 'east' : 'libvirt')
  const copies = (await machineProcesses(directory)).filter(({ arguments: words }) => words.includes(uniqueId))
  return did(copies.filter(({ pid }) => signalProcess(pid, 'SIGKILL')).length > 0)
}
