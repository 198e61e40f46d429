import { readdir } from 'node:fs/promises'
import { runTool } from './run-tool.ts'

export interface FileSystem {
  /** Such as `/dev/vda1`. */
  device: string
  /** As `mount -t` takes it. */
  type: string
  uuid: string | null
}

/** What blkid finds on the disk and its partitions. The disk may be written to by others until now, so nothing cached is used. */
export async function probeFileSystems(diskName: string): Promise<FileSystem[]> {
  await runTool('blockdev', ['--rereadpt', `/dev/${diskName}`]).catch(() => {})
  const partitions = (await readdir(`/sys/block/${diskName}`)).filter((name) => name.startsWith(diskName)).toSorted()
  const found = await Promise.all([diskName, ...partitions].map((name) => probe(`/dev/${name}`)))
  return found.filter((fileSystem) => fileSystem !== null)
}

async function probe(device: string): Promise<FileSystem | null> {
  // Exit code 2: nothing known there.
  const output = await runTool('blkid', ['-p', '-o', 'export', device]).catch(() => '')
  const type = /^TYPE=(\S+)$/m.exec(output)?.[1]
  return type ? { device, type, uuid: /^UUID=(\S+)$/m.exec(output)?.[1] ?? null } : null
}
