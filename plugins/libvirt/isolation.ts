/** Moving a VM's NICs between their own networks and its isolated one, running or not. */
import { setTimeout as pause } from 'node:timers/promises'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { macOf, nicElements, powerOf } from './describe-machine.ts'
import { reconnectNic, setMetadata } from './domain-xml.ts'
import { ensureIsolatedNetwork, isolatedNetworkName, isolationFilterName, removeIsolatedNetwork } from './isolated-network.ts'
import { readMetadata, type MachineMetadata } from './machine-metadata.ts'
import { networkIdOf } from './networks.ts'
import type { Site } from './site.ts'
import type { XmlElement } from './xml.ts'

const linkDownMs = 500

/** Changes a configuration so that its next start is isolated; makes the network. */
export async function isolateConfiguration(site: Site, vmId: string, domain: XmlElement, signal?: AbortSignal): Promise<MachineMetadata> {
  const nics = nicElements(domain)
  const foreign = nics.find((nic) => !['network', 'bridge'].includes(nic.attributes['type'] ?? ''))
  if (foreign)
    throw new ProviderError(
      'UNSUPPORTED',
      `A NIC of ${vmId} is of libvirt's type ${foreign.attributes['type']}, which can't be isolated; nothing was changed.`,
      {
        retryable: false,
        remedy: 'Connect the NIC to a libvirt network or a bridge.',
      },
    )
  const metadata = readMetadata(domain)
  // Noted before anything moves, and never overwritten by what an earlier, killed call has isolated already.
  const ownNics = metadata.ownNics.length > 0 ? metadata.ownNics : structuredClone(nics)
  await ensureIsolatedNetwork(site, vmId, nics.map(macOf), signal)
  for (const nic of nics) reconnectNic(nic, { network: isolatedNetworkName(vmId), filter: isolationFilterName })
  const isolated = { ...metadata, ownNics }
  setMetadata(domain, isolated)
  return isolated
}

/** Changes a configuration back to the VM's own connections. Its metadata is the caller's to write: they are forgotten last. */
export function exposeConfiguration(domain: XmlElement): void {
  const { ownNics } = readMetadata(domain)
  for (const nic of nicElements(domain)) {
    const own = ownNics.find((candidate) => macOf(candidate) === macOf(nic))
    if (own) Object.assign(nic, own)
  }
}

/** Whether a copy that boots from its own disks is on its own networks, so that what it writes is its own. One without NICs reaches nothing either way. */
export function isExposed(domain: XmlElement): boolean {
  const { stage, ownNics } = readMetadata(domain)
  return stage === 'booted' && ownNics.length === 0 && nicElements(domain).length > 0
}

/** Isolates a VM, also one that runs. */
export async function isolateMachine(site: Site, vmId: string, signal?: AbortSignal): Promise<void> {
  const domain = await site.domain(vmId, signal)
  const metadata = await isolateConfiguration(site, vmId, domain, signal)
  await site.note(vmId, { ownNics: metadata.ownNics }, signal)
  await reconnect(site, vmId, domain, signal)
}

/** Puts a VM on its own networks, also one that runs; its isolated network goes. */
export async function exposeMachine(site: Site, vmId: string, signal?: AbortSignal): Promise<void> {
  const domain = await site.domain(vmId, signal)
  exposeConfiguration(domain)
  if (readMetadata(domain).ownNics.length > 0) await reconnect(site, vmId, domain, signal)
  await removeIsolatedNetwork(site, vmId, signal)
  await site.note(vmId, { ownNics: [] }, signal)
}

/** Applies the NICs of a configuration. A running guest sees its link go down and up again, and so asks DHCP for an address on the new network. */
async function reconnect(site: Site, vmId: string, domain: XmlElement, signal?: AbortSignal): Promise<void> {
  const power = await powerOf(site, vmId, signal)
  const running = power === 'RUNNING' || power === 'SUSPENDED'
  for (const nic of nicElements(domain)) {
    const what = `connect the NIC ${macOf(nic)} of ${vmId} to ${networkIdOf(nic)}`
    const setLink = (state: 'up' | 'down') =>
      site.client.call(['domif-setlink', '--domain', vmId, '--interface', macOf(nic), '--state', state], { what, signal })
    if (running) await setLink('down')
    // The guest's kernel must come to see it: a link that is up again by then changed nothing, as far as it knows.
    if (power === 'RUNNING') await pause(linkDownMs)
    const scope = running ? ['--live', '--config'] : ['--config']
    await site.client.define(['update-device', '--domain', vmId, ...scope], nic, { what, signal })
    if (running) await setLink('up')
  }
}
