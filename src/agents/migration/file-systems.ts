import { readdir } from 'node:fs/promises'
import { runTool } from './run-tool.ts'

export interface FileSystem {
  /** Such as `/dev/vda1`. */
  device: string
  /** Its number; null for a file system on the whole disk. */
  partition: number | null
  /** As `mount -t` takes it. */
  type: string
  uuid: string | null
  label: string | null
}

/** What blkid finds on the disk and its partitions. The disk may be written to by others until now, so nothing cached is used. */
export async function probeFileSystems(diskName: string): Promise<FileSystem[]> {
  await runTool('blockdev', ['--rereadpt', `/dev/${diskName}`]).catch(() => {})
  const partitions = (await readdir(`/sys/block/${diskName}`)).filter((name) => name.startsWith(diskName)).toSorted()
  const found = await Promise.all([
    probe(`/dev/${diskName}`, null),
    ...partitions.map((name) => probe(`/dev/${name}`, numberOf(diskName, name))),
  ])
  return found.filter((fileSystem) => fileSystem !== null)
}

function numberOf(diskName: string, partitionName: string): number {
  return Number(partitionName.slice(diskName.length).replace('p', ''))
}

async function probe(device: string, partition: number | null): Promise<FileSystem | null> {
  // Exit code 2: nothing known there.
  const output = await runTool('blkid', ['-p', '-o', 'export', device]).catch(() => '')
  const type = /^TYPE=(\S+)$/m.exec(output)?.[1]
  const value = (name: string) => new RegExp(`^${name}=(\\S+)$`, 'm').exec(output)?.[1] ?? null
  return type ? { device, partition, type, uuid: value('UUID'), label: value('LABEL') } : null
}
