/**
 * Fences: see fenced-definition.ts for what keeps the domain from starting.
 *
 *   none -- arm --> armed: not started, may be suspended and resumed -- fence --> fenced: nor resumed by this plugin
 *    ^_________________________|______________ release ______________________________|
 */
import { type FenceState, type Operation, type ProviderConnection, ProviderError } from '../../src/plugin-sdk/index.ts'
import { diskElements, diskSizeBytes, powerOf, targetOf } from './describe-machine.ts'
import { setMetadata } from './domain-xml.ts'
import { isUnstartable } from './fenced-definition.ts'
import { readMetadata, type MachineFence } from './machine-metadata.ts'
import { defineDomain, destroyMachine } from './power.ts'
import type { Site } from './site.ts'
import type { XmlElement } from './xml.ts'

type Fencing = Operation & { vmId: string; fenceId: string }

export function fencing(site: Site): NonNullable<ProviderConnection['fencing']> {
  return {
    strength: 'host-lock',

    arm: (operation) =>
      site.once(operation, async () => {
        const { managedSave } = await factsOf(site, operation.vmId, operation.signal)
        if (managedSave)
          throw refusal(
            'CONFLICT',
            operation.vmId,
            'has a saved state, from which libvirt would start it',
            'Start it first, or drop that state with `virsh managedsave-remove`.',
          )
        await arm(site, operation, false)
      }),

    fence: (operation) =>
      site.once(operation, async () => {
        const { vmId, signal } = operation
        // First the lock, then the end of what runs: killed in between, the VM may still run, and the repeated call ends it.
        await arm(site, operation, true)
        if ((await powerOf(site, vmId, signal)) !== 'SUSPENDED') await destroyMachine(site, vmId, signal)
        if ((await factsOf(site, vmId, signal)).managedSave)
          await site.client.call(['managedsave-remove', '--domain', vmId], { what: `drop the saved state of ${vmId}`, signal })
      }),

    async confirm({ vmId, signal }): Promise<FenceState> {
      const fence = readMetadata(await site.domain(vmId, signal)).fence
      const stored = await site.client.read(['dumpxml', '--domain', vmId, '--inactive'], { what: `look at the fence of ${vmId}`, signal })
      const armed = fence !== undefined && isUnstartable(stored)
      const { managedSave } = await factsOf(site, vmId, signal)
      // Its memory waits in a file.
      const power = managedSave ? 'SUSPENDED' : await powerOf(site, vmId, signal)
      const resumable = power === 'SUSPENDED' && (managedSave || !fence?.fenced)
      return {
        fenceId: fence?.fenceId ?? null,
        armed,
        fenced: armed && (power === 'STOPPED' || power === 'SUSPENDED') && !resumable,
        power,
      }
    },

    release: (operation) =>
      site.once(operation, async () => {
        const { vmId, fenceId, signal } = operation
        const domain = await site.domain(vmId, signal)
        const metadata = readMetadata(domain)
        if (metadata.fence?.fenceId !== fenceId) return
        // While it is still known that it was on: the definition goes last.
        if (metadata.fence.autostart) await setAutostart(site, vmId, true, signal)
        setMetadata(domain, { ...metadata, fence: undefined })
        await defineDomain(site, domain, signal)
      }),
  }
}

async function arm(site: Site, { vmId, fenceId, signal }: Fencing, fenced: boolean): Promise<void> {
  const domain = await site.domain(vmId, signal)
  const metadata = readMetadata(domain)
  if (metadata.fence && metadata.fence.fenceId !== fenceId)
    throw refusal(
      'CONFLICT',
      vmId,
      `has a fence already, ${JSON.stringify(metadata.fence.fenceId)}`,
      'Release that fence first, after making sure that what armed it is over.',
    )
  const { persistent, autostart } = await factsOf(site, vmId, signal)
  if (!persistent)
    throw refusal(
      'UNSUPPORTED',
      vmId,
      'is transient, so libvirt keeps no definition of it that could be fenced',
      'Define it with `virsh define`.',
    )
  if (diskElements(domain).length === 0) throw refusal('UNSUPPORTED', vmId, 'has no disk, and a fence is put on disks', 'Give it a disk.')
  const fence = metadata.fence ?? { fenceId, fenced, autostart, disks: await disksBefore(site, vmId, domain, signal) }
  setMetadata(domain, { ...metadata, fence: { ...fence, fenced: fence.fenced || fenced } })
  // libvirtd fsyncs the file and then renames it; on file systems that commit in order the second fsync makes the first rename durable.
  await defineDomain(site, domain, signal)
  await defineDomain(site, domain, signal)
  if (autostart) await setAutostart(site, vmId, false, signal)
}

async function disksBefore(site: Site, vmId: string, domain: XmlElement, signal?: AbortSignal): Promise<MachineFence['disks']> {
  return Promise.all(
    diskElements(domain).map(async (disk) => ({
      own: structuredClone(disk),
      sizeBytes: await diskSizeBytes(site, vmId, targetOf(disk), signal),
    })),
  )
}

export async function setAutostart(site: Site, vmId: string, on: boolean, signal?: AbortSignal): Promise<void> {
  await site.client.call(['autostart', '--domain', vmId, ...(on ? [] : ['--disable'])], { what: `set the autostart of ${vmId}`, signal })
}

export async function factsOf(
  site: Site,
  vmId: string,
  signal?: AbortSignal,
): Promise<{ persistent: boolean; autostart: boolean; managedSave: boolean }> {
  const lines = await site.client.look(['dominfo', '--domain', vmId], { what: `look at the virtual machine ${vmId}`, signal })
  // Line by line: of a name, which anybody may give, `m` would take more for the start of a line than a line feed.
  const rows = lines.split('\n')
  const says = (label: string, value: string) => rows.some((row) => new RegExp(`^${label}:\\s*${value}\\s*$`).test(row))
  return { persistent: says('Persistent', 'yes'), autostart: says('Autostart', 'enable'), managedSave: says('Managed save', 'yes') }
}

function refusal(code: 'CONFLICT' | 'UNSUPPORTED', vmId: string, why: string, remedy: string): ProviderError {
  return new ProviderError(code, `The virtual machine ${vmId} ${why}. It is as it was.`, { retryable: false, remedy, path: ['vmId'] })
}
