/** Changing whether a VM runs. Each step looks first, so that it can be repeated. */
import { setTimeout as pause } from 'node:timers/promises'
import { type PowerState, ProviderError } from '../../src/plugin-sdk/index.ts'
import { powerOf } from './describe-machine.ts'
import { requireUnarmed, requireUnfenced, storedDefinition } from './fenced-definition.ts'
import type { Site } from './site.ts'
import { childAt, textOf, type XmlElement } from './xml.ts'

const shutdownTimeoutMs = 120_000
const pollIntervalMs = 500
/** A VM that is just going down is off, or up again, after so many looks. */
const looksUntilSettled = 10

/** Creates the domain, or replaces its configuration for the next start; one that is fenced stays so. */
export async function defineDomain(site: Site, tree: XmlElement, signal?: AbortSignal): Promise<void> {
  const name = JSON.stringify(textOf(childAt(tree, 'name')))
  await site.client.define(['define'], storedDefinition(tree), { what: `define the virtual machine ${name}`, signal })
}

/** A suspended VM is not started: its memory is there already. `paused`: the guest does not run an instruction. */
export async function startMachine(site: Site, vmId: string, signal?: AbortSignal, paused = false): Promise<void> {
  if (isUp(await settledPower(site, vmId, signal))) return
  requireUnarmed(vmId, await site.domain(vmId, signal))
  try {
    await site.client.call(['start', '--domain', vmId, ...(paused ? ['--paused'] : [])], {
      what: `start the virtual machine ${vmId}`,
      signal,
    })
  } catch (error) {
    // A call that was killed a moment ago may have got there first. The message would not tell: it quotes the VM's name.
    if (!isUp(await powerOf(site, vmId, signal))) throw error
  }
}

function isUp(power: PowerState): boolean {
  return power === 'RUNNING' || power === 'SUSPENDED'
}

async function settledPower(site: Site, vmId: string, signal?: AbortSignal): Promise<PowerState> {
  for (let look = 1; look <= looksUntilSettled; look++) {
    const power = await powerOf(site, vmId, signal)
    if (power !== 'UNKNOWN') return power
    await pause(pollIntervalMs)
  }
  throw new ProviderError('CONFLICT', `The virtual machine ${vmId} is neither on nor off, so it was not started.`, {
    retryable: true,
    remedy: 'Look at it with `virsh domstate --reason`; try again once it is off, or stop it by force first.',
  })
}

/** Pulls the plug. */
export async function destroyMachine(site: Site, vmId: string, signal?: AbortSignal): Promise<void> {
  if ((await powerOf(site, vmId, signal)) === 'STOPPED') return
  try {
    await site.client.call(['destroy', '--domain', vmId], { what: `power off the virtual machine ${vmId}`, signal })
  } catch (error) {
    if ((await powerOf(site, vmId, signal)) !== 'STOPPED') throw error
  }
}

/** Presses the power button and waits until the guest is off. */
export async function shutDownMachine(site: Site, vmId: string, signal?: AbortSignal): Promise<void> {
  const power = await powerOf(site, vmId, signal)
  if (power === 'STOPPED') return
  if (power === 'SUSPENDED') throw wrongState(vmId, 'suspended, so its guest can do nothing', 'Resume it first, or stop it by force.')
  await site.client.call(['shutdown', '--domain', vmId], { what: `ask the guest of ${vmId} to shut down`, signal })
  const deadline = Date.now() + shutdownTimeoutMs
  while ((await powerOf(site, vmId, signal)) !== 'STOPPED') {
    if (Date.now() > deadline)
      throw new ProviderError('TIMED_OUT', `The guest of ${vmId} did not shut down within ${shutdownTimeoutMs / 1000} s; it runs on.`, {
        retryable: true,
        remedy: 'Try again, or stop it by force.',
      })
    await pause(pollIntervalMs)
  }
}

export async function suspendMachine(site: Site, vmId: string, signal?: AbortSignal): Promise<void> {
  const power = await powerOf(site, vmId, signal)
  if (power === 'SUSPENDED') return
  if (power !== 'RUNNING') throw wrongState(vmId, 'not running, so it was not suspended', 'Start it first.')
  await site.client.call(['suspend', '--domain', vmId], { what: `suspend the virtual machine ${vmId}`, signal })
}

export async function resumeMachine(site: Site, vmId: string, signal?: AbortSignal): Promise<void> {
  const power = await powerOf(site, vmId, signal)
  if (power === 'RUNNING') return
  if (power !== 'SUSPENDED') throw wrongState(vmId, 'not suspended, so it was not resumed', 'Start it, if it is to run.')
  requireUnfenced(vmId, await site.domain(vmId, signal))
  await site.client.call(['resume', '--domain', vmId], { what: `resume the virtual machine ${vmId}`, signal })
}

export function wrongState(vmId: string, state: string, remedy: string): ProviderError {
  return new ProviderError('CONFLICT', `The virtual machine ${vmId} is ${state}.`, { retryable: false, remedy })
}
