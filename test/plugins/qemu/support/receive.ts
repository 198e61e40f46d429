import { readFile } from 'node:fs/promises'
import { expect } from 'vitest'
import { withQmp } from '../../../../plugins/qemu/qmp.ts'
import type { TestCloud } from './cloud.ts'

/** The landing image writes a block of 64 KiB of this byte, as an agent that receives: through QEMU's monitor. */
export async function receive(cloud: TestCloud, vmId: string, block: number, byte: number): Promise<void> {
  const pid = await readFile(cloud.machineFile(vmId, 'qemu.pid'), 'utf8')
  const command = `qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend "write -f -P ${byte} ${block * 64}k 64k"`
  const said = await withQmp(`/proc/${pid.trim()}/cwd/qmp.sock`, {}, (session) =>
    session.execute<string>('human-monitor-command', { 'command-line': command }),
  )
  expect(said).not.toMatch(/error|fail/i)
}

/** Whether the disk holds that block. */
export function holds(disk: Buffer, block: number, byte: number): boolean {
  return disk.subarray(block * 65_536, (block + 1) * 65_536).every((found) => found === byte)
}
