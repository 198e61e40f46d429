/** Volumes of the site's storage pool. All go through libvirtd, so that a remote one works as a local one does. */
import { open, type FileHandle } from 'node:fs/promises'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { givenFile, type LibvirtClient } from './client.ts'
import { isNotFound } from './virsh-failure.ts'
import { childAt, countIn, textOf } from './xml.ts'

const uploadTimeoutMs = 30 * 60_000

/** A disk's file on libvirt's host. */
export interface DiskFile {
  path: string
  format: 'raw' | 'qcow2'
}

export interface Volumes {
  /** A raw, sparse, all-zero volume; one of that name is replaced. */
  createEmpty(name: string, sizeBytes: number, signal?: AbortSignal): Promise<void>
  /** A qcow2 volume that shows `base` until it is written to; one of that name is replaced. */
  createOverlay(name: string, base: DiskFile, signal?: AbortSignal): Promise<void>
  /** A volume with a local file's content; one of that name is replaced. Holes stay holes. An open file is closed at the end. */
  upload(name: string, content: string | FileHandle, options?: { sizeBytes?: number; signal?: AbortSignal | undefined }): Promise<void>
  sizeBytes(name: string, signal?: AbortSignal): Promise<number>
  /** Where the pool lies on libvirt's host. */
  directory(signal?: AbortSignal): Promise<string>
  /** Names of all volumes of a VM (see volume-names.ts). */
  ofMachine(vmId: string, signal?: AbortSignal): Promise<string[]>
  /** Part of a volume, into an empty file. Like the other calls it takes the path of a volume in any pool, too. */
  download(name: string, file: FileHandle, part: { offset: number; length: number; signal?: AbortSignal | undefined }): Promise<void>
  /** Makes files known that libvirt did not make itself. */
  refresh(signal?: AbortSignal): Promise<void>
  /** No such volume is a success. */
  delete(name: string, signal?: AbortSignal): Promise<void>
  /** 0 where libvirt does not tell. */
  availableBytes(signal?: AbortSignal): Promise<number>
}

export function openVolumes(client: LibvirtClient, pool: string): Volumes {
  const create: (name: string, args: string[], signal?: AbortSignal) => Promise<void> = async (name, args, signal) => {
    await remove(name, signal)
    await client.call(['vol-create-as', '--pool', pool, '--name', name, ...args], { what: `create the volume ${name}`, signal })
  }

  const remove: Volumes['delete'] = async (name, signal) => {
    try {
      await client.call(['vol-delete', '--pool', pool, '--vol', name], { what: `delete the volume ${name}`, signal })
    } catch (error) {
      if (!isNotFound(error, 'volume')) throw error
    }
  }

  const refresh: Volumes['refresh'] = async (signal) => {
    await client.call(['pool-refresh', '--pool', pool], { what: 'refresh the storage pool', signal })
  }

  /** libvirt finds a path in whatever pool it is. */
  const volume = (name: string) => (name.startsWith('/') ? ['--vol', name] : ['--pool', pool, '--vol', name])

  const sizeBytes: Volumes['sizeBytes'] = async (name, signal) => {
    const tree = await client.read(['vol-dumpxml', ...volume(name)], { what: `measure the volume ${name}`, signal })
    const text = textOf(childAt(tree, 'capacity'))
    const count = countIn(text)
    if (count === 0 && text.trim() !== '0') throw unreadable(`how large the volume ${name} is`)
    return count
  }

  const describePool = (signal?: AbortSignal) => client.read(['pool-dumpxml', '--pool', pool], { what: 'look at the storage pool', signal })

  return {
    createEmpty: (name, sizeBytes, signal) =>
      create(name, ['--capacity', String(sizeBytes), '--allocation', '0', '--format', 'raw'], signal),

    async createOverlay(name, { path, format }, signal) {
      const below = ['--backing-vol', path, '--backing-vol-format', format]
      await create(name, ['--capacity', String(await sizeBytes(path, signal)), '--format', 'qcow2', ...below], signal)
    },

    async upload(name, content, options = {}) {
      const { signal } = options
      const file = typeof content === 'string' ? await open(content) : content
      try {
        const sizeBytes = options.sizeBytes ?? (await file.stat()).size
        await create(name, ['--capacity', String(sizeBytes), '--allocation', '0', '--format', 'raw'], signal)
        await client.call(['vol-upload', '--pool', pool, '--vol', name, '--file', givenFile, '--sparse'], {
          what: `upload to the volume ${name}`,
          timeoutMs: uploadTimeoutMs,
          signal,
          file,
        })
      } finally {
        await file.close()
      }
    },

    sizeBytes,

    async directory(signal) {
      const path = textOf(childAt(await describePool(signal), 'target', 'path'))
      if (!path.startsWith('/')) throw unreadable(`where the storage pool ${pool} lies`)
      return path
    },

    async download(name, file, { offset, length, signal }) {
      const part = ['--offset', String(offset), '--length', String(length)]
      await client.call(['vol-download', ...volume(name), '--file', givenFile, ...part], { what: `read the volume ${name}`, signal, file })
    },

    refresh,

    async ofMachine(vmId, signal) {
      // What a killed libvirtd left behind is seen only after a refresh.
      await refresh(signal)
      const table = await client.call(['vol-list', '--pool', pool], { what: 'list the storage pool', signal })
      return table.split('\n').flatMap((line) => {
        const name = line.trim().split(/\s/)[0] ?? ''
        return name.includes(`-${vmId}-`) ? [name] : []
      })
    },

    delete: remove,

    availableBytes: async (signal) => countIn(textOf(childAt(await describePool(signal), 'available'))),
  }
}

function unreadable(what: string): ProviderError {
  return new ProviderError('INTERNAL', `libvirt's answer does not say ${what}; nothing was changed.`, {
    retryable: true,
    remedy: 'Look at it with `virsh vol-dumpxml` and `virsh pool-dumpxml`, and see that the storage pool is active.',
  })
}
