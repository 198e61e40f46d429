/** The serial console of a domain, from the log that libvirt keeps of it: as a volume of a storage pool, so that a remote libvirt gives it too. */
import { consoleBytes, consoleText, ProviderError, type ProviderConnection } from '../../src/plugin-sdk/index.ts'
import { namelessFile } from './client.ts'
import type { Site } from './site.ts'
import { isNotFound } from './virsh-failure.ts'
import { childAt, childrenNamed, element, type XmlElement } from './xml.ts'

/** For `<serial>`. virtlogd keeps it below 2 MiB and rotates it; libvirt opens it itself, so QEMU's user needs no right to the pool. */
export function consoleLog(path: string): XmlElement {
  return element('log', { file: path, append: 'on' })
}

export function readConsole(site: Site): NonNullable<ProviderConnection['virtualMachines']['console']> {
  return async ({ vmId, signal }) => {
    const path = logOf(await site.runningDomain(vmId, signal))
    if (path === undefined) throw noLog(vmId, 'has no serial console that is logged to a file')
    const sizeBytes = await sizeOf(site, path, signal)
    if (sizeBytes === undefined) {
      // Not there before the first start.
      if (path.startsWith(`${await site.volumes.directory(signal)}/`)) return { text: '' }
      throw noLog(vmId, `logs its serial console to ${path}, which is in no storage pool, so libvirt can't read it`)
    }
    return { text: consoleText(await tailOf(site, path, sizeBytes, signal)) }
  }
}

function logOf(domain: XmlElement): string | undefined {
  const devices = childAt(domain, 'devices')
  const files = [...childrenNamed(devices, 'serial'), ...childrenNamed(devices, 'console')].flatMap((of) => [
    childAt(of, 'log')?.attributes['file'],
    of.attributes['type'] === 'file' ? childAt(of, 'source')?.attributes['path'] : undefined,
  ])
  return files.find((file) => file !== undefined)
}

/** undefined where no pool has it. A file that is new is seen only after a refresh. */
async function sizeOf(site: Site, path: string, signal?: AbortSignal): Promise<number | undefined> {
  for (const refresh of [false, true]) {
    if (refresh) await site.volumes.refresh(signal)
    try {
      return await site.volumes.sizeBytes(path, signal)
    } catch (error) {
      if (!isNotFound(error, 'volume')) throw error
    }
  }
  return undefined
}

/** One byte more than is shown, so that a cut is known as one. */
async function tailOf(site: Site, path: string, sizeBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
  const wanted = Math.min(sizeBytes, consoleBytes + 1)
  if (wanted === 0) return new Uint8Array()
  const file = await namelessFile()
  try {
    await site.volumes.download(path, file, { offset: sizeBytes - wanted, length: wanted, signal })
    return await file.readFile()
  } finally {
    await file.close()
  }
}

function noLog(vmId: string, why: string): ProviderError {
  return new ProviderError('UNSUPPORTED', `The virtual machine ${vmId} ${why}.`, {
    retryable: false,
    remedy: 'Add <log file="…"/> with a path in a storage pool to its <serial> element, and start it again.',
    path: ['vmId'],
  })
}
