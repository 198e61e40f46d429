import * as fs from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { blockBytes } from '../../transfer/block-grain.ts'
import { TransferError } from '../../transfer/transfer-error.ts'

/**
 * A disk past the page cache: a buffered read of a mounted disk gives stale data. Buffers must be aligned (aligned-buffers.ts), offsets and lengths
 * multiples of 512.
 */
export interface DiskDevice {
  readonly path: string
  /** Fills `into` from `block` on. Throws TransferError DISK_READ_FAILED. */
  read(into: Buffer, block: number): Promise<void>
  /** Throws TransferError DISK_WRITE_FAILED. */
  write(from: Buffer, block: number): Promise<void>
  /** Until it is on stable storage. */
  flush(): Promise<void>
  close(): Promise<void>
}

export async function openDiskDevice(path: string, access: 'READ' | 'READ_WRITE'): Promise<DiskDevice> {
  const { O_RDONLY, O_RDWR, O_DIRECT } = fs.constants
  const handle = await open(path, (access === 'READ' ? O_RDONLY : O_RDWR) | O_DIRECT).catch((error: unknown) => {
    throw failed('DISK_READ_FAILED', `${path} can't be opened`, error)
  })
  return {
    path,
    read: (into, block) => transferAll(handle, 'read', into, block, path),
    write: (from, block) => transferAll(handle, 'write', from, block, path),
    async flush() {
      await handle.datasync().catch((error: unknown) => {
        throw failed('DISK_WRITE_FAILED', `${path} can't be flushed`, error)
      })
    },
    close: () => handle.close(),
  }
}

async function transferAll(handle: FileHandle, way: 'read' | 'write', buffer: Buffer, block: number, path: string): Promise<void> {
  const code = way === 'read' ? 'DISK_READ_FAILED' : 'DISK_WRITE_FAILED'
  for (let done = 0; done < buffer.length;) {
    const position = block * blockBytes + done
    const moved = await moveSome(handle, way, buffer, done, position).catch((error: unknown) => {
      throw failed(code, `${path} can't be ${way === 'read' ? 'read' : 'written'} at byte ${position}`, error)
    })
    if (moved === 0) throw failed(code, `${path} ends before byte ${position}`, null)
    done += moved
  }
}

async function moveSome(handle: FileHandle, way: 'read' | 'write', buffer: Buffer, offset: number, position: number): Promise<number> {
  const length = buffer.length - offset
  if (way === 'read') return (await handle.read(buffer, offset, length, position)).bytesRead
  return (await handle.write(buffer, offset, length, position)).bytesWritten
}

function failed(code: 'DISK_READ_FAILED' | 'DISK_WRITE_FAILED', what: string, cause: unknown): TransferError {
  const reason = cause instanceof Error ? `: ${cause.message}` : ''
  return new TransferError(code, `The disk ${what}${reason}. Check the disk, then run the round again.`, { retryable: true, cause })
}
