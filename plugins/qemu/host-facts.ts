import { constants, open, rm } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import type { HostFacts } from './command-line.ts'
import { kvmWorks } from './kvm-probe.ts'
import type { QemuOptions } from './options.ts'

/** Asks this machine, at connect. */
export async function readHostFacts(options: QemuOptions): Promise<HostFacts> {
  const kvm =
    options.accelerator === 'kvm' ||
    (options.accelerator === 'auto' && (await kvmWorks(options.qemuBinary, join(options.stateDirectory, 'kvm-probe'))))
  return {
    accelerator: kvm ? 'kvm' : 'tcg',
    // Emulated vector instructions are slow: with the model max, ChaCha20 and SHA-512 in a guest ran at less than half the speed.
    cpuModel: options.cpuModel ?? (kvm ? 'host' : 'qemu64'),
    directIo: (
      await Promise.all([options.stateDirectory, ...options.storages.map(({ directory }) => directory)].map(allowsDirectIo))
    ).every(Boolean),
    forwardAddress: options.forwardAddress,
  }
}

/** Some file systems, such as older tmpfs and overlays, refuse O_DIRECT. */
async function allowsDirectIo(directory: string): Promise<boolean> {
  const path = join(directory, `.direct-io-${randomUUID()}`)
  try {
    const file = await open(path, constants.O_CREAT | constants.O_EXCL | constants.O_RDWR | constants.O_DIRECT, 0o600)
    await file.close()
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EINVAL') return false
    throw error
  } finally {
    await rm(path, { force: true })
  }
}
