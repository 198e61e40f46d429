import type { Finding } from './finding.ts'

/** What an agent said about its guest when it dialled in. */
export interface AgentGuest {
  architecture: string
  memoryAvailableBytes: number
  disks: readonly {
    sizeBytes: number
    root: boolean
    swap: boolean
    mounts: readonly { path: string; readOnly: boolean; device?: string; fsType?: string }[]
  }[]
}

/** What an agent needs beside what it has when it says hello, in bytes. */
const agentHeadroomBytes = 24 * 1024 * 1024

/** Their drivers in Linux have no `freeze_fs`, so FIFREEZE answers EOPNOTSUPP. A partition of EFI's is mounted so by most cloud images, also where they boot by BIOS. */
const neverFrozen: ReadonlySet<string> = new Set(['vfat', 'msdos', 'exfat', 'ntfs', 'ntfs3', 'fuseblk'])

/** The second part of pre-flight, once the agents are in both guests. Swap on the disk is written behind the freeze, so it is refused. */
export function agentFindings(
  source: AgentGuest,
  destination: AgentGuest,
  wish: { otherAddresses: boolean } = { otherAddresses: false },
): Finding[] {
  const found: Finding[] = []
  if (source.architecture !== destination.architecture)
    found.push({
      code: 'AGENT_ARCHITECTURE_DIFFERS',
      severity: 'BLOCKER',
      message: `The source runs on ${source.architecture}, the destination's landing image on ${destination.architecture}.`,
      remedy: 'Choose a cloud with hosts of the same architecture.',
    })
  const root = source.disks.find((disk) => disk.root)
  if (!root)
    found.push({
      code: 'NO_ROOT_DISK',
      severity: 'BLOCKER',
      message: "The source's agent found no disk that holds the root file system.",
      remedy: 'Only guests whose root file system is on a disk of the virtual machine are supported.',
    })
  if (root?.swap)
    found.push({
      code: 'SWAP_ON_DISK',
      severity: 'BLOCKER',
      message: 'The source swaps to the disk that is to be copied, and freezing does not stop swapping.',
      remedy: 'Switch the swap off in the guest (swapoff -a) for the time of the move.',
    })
  const unfreezable = root?.mounts.filter(({ readOnly, fsType }) => !readOnly && fsType !== undefined && neverFrozen.has(fsType)) ?? []
  if (unfreezable.length > 0) {
    const places = unfreezable.map(({ path, fsType }) => `${path} (${fsType})`).join(', ')
    found.push({
      code: 'FILE_SYSTEM_NOT_FREEZABLE',
      severity: 'BLOCKER',
      message: `The source's disk holds ${places}, which Linux can't freeze, so no copy of one moment could be made of it.`,
      remedy: `Unmount it in the guest for the time of the move, or make it read-only (mount -o remount,ro ${unfreezable[0]!.path}).`,
    })
  }
  const why = root && fixUpHindrance(root)
  if (why)
    found.push({
      code: 'GUEST_NOT_FITTED',
      severity: wish.otherAddresses ? 'BLOCKER' : 'WARNING',
      message: `${why}, so nothing in the copied guest can be fitted to its new place before it boots there.`,
      remedy: 'See that the guest finds its disks by UUID or LVM name and its interfaces by MAC, and ask for no other addresses.',
    })
  for (const [where, guest] of [
    ['source', source],
    ['destination', destination],
  ] as const) {
    if (guest.memoryAvailableBytes >= agentHeadroomBytes) continue
    found.push({
      code: 'GUEST_MEMORY_LOW',
      severity: 'WARNING',
      message: `The ${where}'s guest has ${Math.round(guest.memoryAvailableBytes / 1024 / 1024)} MiB of memory available beside the agent.`,
      remedy: 'Free memory in the guest: an agent that is killed for lack of it starts over.',
    })
  }
  return found
}

/** Why the landing image can't open the root of the copied guest; null when it can. */
function fixUpHindrance(disk: AgentGuest['disks'][number]): string | null {
  const root = disk.mounts.find(({ path }) => path === '/')
  if (root?.device !== undefined && /^\/dev\/(mapper\/|dm-|md)/.test(root.device))
    return `The guest's root is on ${root.device} (LVM, encryption or RAID), which the landing image does not open`
  if (root?.fsType !== undefined && !/^(ext[234]|xfs)$/.test(root.fsType))
    return `The guest's root is a ${root.fsType} file system, which the landing image does not mount`
  return null
}
