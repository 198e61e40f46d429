/**
 * How a fenced domain is stored: each disk of the definition that the next start would use points to a file that can't exist, with a name that says why. So libvirt
 * itself refuses every start, whoever asks: autostart, `virsh start`, this plugin. A domain that runs has its own, live definition and runs on.
 *
 * The disks as they were are in our metadata, in the same definition, which libvirt replaces as a whole: there is no moment with one and without the other. What
 * reads definitions here (site.ts) sees the VM's own disks, and what writes them (defineDomain) stores the fenced ones.
 */
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { diskElements, targetOf } from './describe-machine.ts'
import { readMetadata } from './machine-metadata.ts'
import { element, elementsOf, type XmlElement } from './xml.ts'

/** Nobody can make a file there, not even root. */
const nowhere = '/proc/fenced-by-portolan'

/** The definition to store for a domain: itself, unless its metadata holds a fence. */
export function storedDefinition(domain: XmlElement): XmlElement {
  const { fence } = readMetadata(domain)
  if (!fence) return domain
  const stored = structuredClone(domain)
  for (const disk of diskElements(stored)) {
    const file = `${nowhere}/${fence.fenceId.replace(/[^A-Za-z0-9._-]/g, '-').slice(0, 120)}/${targetOf(disk)}`
    disk.attributes['type'] = 'file'
    disk.children = [
      ...elementsOf(disk).filter(({ name }) => !['source', 'backingStore', 'mirror'].includes(name)),
      element('source', { file }),
    ]
  }
  return stored
}

/** The reverse. A domain without a fence, and one that runs, is as libvirt shows it. */
export function ownDefinition(domain: XmlElement): XmlElement {
  const { fence } = readMetadata(domain)
  for (const disk of fence ? diskElements(domain) : []) {
    const own = fence?.disks.find((candidate) => targetOf(candidate.own) === targetOf(disk))?.own
    if (own) Object.assign(disk, own)
  }
  return domain
}

/** Whether libvirt would refuse to start a domain that is stored like this. */
export function isUnstartable(stored: XmlElement): boolean {
  return diskElements(stored).some((disk) => elementsOf(disk).some(({ attributes }) => attributes['file']?.startsWith(`${nowhere}/`)))
}

/** Throws CONFLICT: the VM may not be started, so neither may a step begin that starts it. */
export function requireUnarmed(vmId: string, domain: XmlElement): void {
  const { fence } = readMetadata(domain)
  if (fence) throw refused(vmId, fence.fenceId, 'started')
}

/** Throws CONFLICT: the VM may not be resumed. */
export function requireUnfenced(vmId: string, domain: XmlElement): void {
  const { fence } = readMetadata(domain)
  if (fence?.fenced) throw refused(vmId, fence.fenceId, 'resumed')
}

function refused(vmId: string, fenceId: string, how: 'started' | 'resumed'): ProviderError {
  return new ProviderError(
    'CONFLICT',
    `The virtual machine ${vmId} is fenced (${JSON.stringify(fenceId)}) and was not ${how}: another copy of it may be the live one. It is as it was.`,
    {
      retryable: false,
      remedy: "See the migration's verdict; the fence is released when this copy is the one that goes on.",
      path: ['vmId'],
    },
  )
}
