import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { consoleBytes, consoleText, type ProviderConnection } from '../../src/plugin-sdk/index.ts'
import { runTool } from './run-tool.ts'
import type { Site } from './site.ts'
import { atSite } from './state-directory.ts'

const logFile = 'serial.log'
/** Disk space that a guest's console may take before the oldest of it goes. */
const mostBytes = 1024 * 1024
const blockBytes = 4096

export function readConsole(site: Site): NonNullable<ProviderConnection['virtualMachines']['console']> {
  return async ({ vmId, signal }) => {
    const directory = site.store.directoryOf((await site.store.read(vmId)).vmId)
    await boundConsole(site, vmId, signal)
    return { text: consoleText(await atSite(site.options.stateDirectory, () => tailOf(join(directory, logFile)))) }
  }
}

/** Frees the disk space of all but the newest of the guest's console. Where that can't be done it is logged: no VM stays off for its console. */
export async function boundConsole({ store, log }: Site, vmId: string, signal: AbortSignal | undefined): Promise<void> {
  await punch(store.directoryOf(vmId), signal).catch((error: unknown) => log('warn', String(error), { vmId }))
}

/** QEMU appends meanwhile, so the file becomes a hole at its beginning, and no byte moves. */
async function punch(directory: string, signal: AbortSignal | undefined): Promise<void> {
  const found = await statOf(join(directory, logFile))
  if (!found || found.blocks * 512 <= mostBytes) return
  const oldBytes = Math.floor((found.size - consoleBytes) / blockBytes) * blockBytes
  const hole = ['--punch-hole', '--offset', '0', '--length', String(oldBytes), logFile]
  await runTool('fallocate', hole, { cwd: directory, signal, timeoutMs: 60_000 })
}

/** One byte more than is shown, so that a cut is known as one. */
async function tailOf(path: string): Promise<Uint8Array> {
  const found = await statOf(path)
  if (!found) return new Uint8Array()
  const bytes = Buffer.alloc(Math.min(found.size, consoleBytes + 1))
  const file = await open(path)
  try {
    const { bytesRead } = await file.read(bytes, 0, bytes.length, found.size - bytes.length)
    return bytes.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

async function statOf(path: string): Promise<{ size: number; blocks: number } | null> {
  return stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
}
