/**
 * QEMU's arguments for a parent and its children. A child must show the very devices that its parent was saved with, at the same places, so both come from one list:
 * a PC with as few devices as a guest needs (it starts in 20 ms), every one at a slot of its own.
 *
 * QEMU runs in the VM's directory as an account that may enter no directory above: every path is relative.
 */
import type { ChildLimits } from '../../../src/plugin-sdk/index.ts'
import type { HostFacts } from '../command-line.ts'
import { memoryKiB, processors } from '../command-line.ts'
import { parentFiles, runFiles } from './fork-files.ts'
import { forkName } from './fork-processes.ts'

/** What a parent was booted with, and its children are. */
export interface ForkHardware {
  accelerator: 'tcg' | 'kvm'
  cpuModel: string
  cpuCount: number
  /** For `-smp`; absent in a parent that an earlier version of this plugin has saved. */
  processors?: string
  memoryKiB: number
}

/** The guest's virtio-serial port. */
const portName = 'org.portolan.child'
/** The file descriptor at which a child's QEMU finds its parent's device state. */
const deviceStateFd = 3

export function hardwareOf(
  host: Pick<HostFacts, 'accelerator' | 'cpuModel'>,
  asked: { memoryBytes: number; cpuCount: number },
): ForkHardware {
  return {
    accelerator: host.accelerator,
    cpuModel: host.cpuModel,
    cpuCount: asked.cpuCount,
    processors: processors(asked.cpuCount, host.accelerator),
    memoryKiB: memoryKiB(asked.memoryBytes, host.accelerator),
  }
}

export function parentCommandLine(hardware: ForkHardware, mac: string, kernelArguments: string): string[] {
  return [
    ...hardwareArguments(hardware, { ramFile: parentFiles.ram, share: 'on', mac, networkId: null }),
    ['-blockdev', JSON.stringify({ driver: 'raw', 'node-name': 'disk', file: { driver: 'file', filename: parentFiles.disk } })],
    ['-chardev', `file,id=console,path=${parentFiles.console}`],
    ['-kernel', `../${parentFiles.kernel}`, '-initrd', `../${parentFiles.initrd}`, '-append', kernelArguments],
  ].flat()
}

/** `overlay`: above the parent's disk, which is never opened for writing. The guest's console goes nowhere: it could fill the host's disk. */
export function childCommandLine(
  hardware: ForkHardware,
  child: { mac: string; network: ChildLimits['network']; paused: boolean },
): string[] {
  const networkId = child.network === 'NONE' ? null : child.network.networkId
  const base = {
    driver: 'raw',
    'read-only': true,
    file: { driver: 'file', filename: `../../../${parentFiles.disk}`, 'read-only': true, locking: 'off' },
  }
  const overlay = { driver: 'qcow2', 'node-name': 'disk', backing: base, file: { driver: 'file', filename: runFiles.overlay } }
  return [
    ...hardwareArguments(hardware, { ramFile: `../../../${parentFiles.ram}`, share: 'off', mac: child.mac, networkId }),
    ['-blockdev', JSON.stringify(overlay)],
    ['-chardev', 'null,id=console'],
    // The state is of the devices alone: it holds no description of the stream.
    ['-global', 'migration.send-configuration=off', '-incoming', `fd:${deviceStateFd}`],
    child.paused ? ['-S'] : [],
  ].flat()
}

function hardwareArguments(
  { accelerator, cpuModel, cpuCount, processors: smp = String(cpuCount), memoryKiB: sizeKiB }: ForkHardware,
  { ramFile, share, mac, networkId }: { ramFile: string; share: 'on' | 'off'; mac: string; networkId: string | null },
): string[][] {
  return [
    // A guest that boots again is no child any more: it ends.
    ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ['-name', forkName, '-qmp', `unix:${runFiles.control},server=on,wait=off`],
    ['-machine', `pc,accel=${accelerator},memory-backend=ram,mem-merge=off,hpet=off,vmport=off,usb=off`],
    ['-cpu', cpuModel, '-smp', smp, '-m', `${sizeKiB}K`, '-rtc', 'base=utc'],
    // The id is a part of the memory's name: the same on both sides.
    ['-object', `memory-backend-file,id=ram,size=${sizeKiB}K,mem-path=${ramFile},share=${share}`],
    ['-device', 'virtio-serial-pci,id=ports,max_ports=2,addr=0x3'],
    ['-chardev', `socket,id=channel,path=${runFiles.channel},server=on,wait=off`],
    ['-device', `virtserialport,bus=ports.0,nr=1,chardev=channel,name=${portName}`],
    ['-device', 'virtio-blk-pci,id=disk0,drive=disk,addr=0x4,werror=report,rerror=report'],
    ['-netdev', 'hubport,id=nic,hubid=0'],
    ['-device', `virtio-net-pci,id=nic0,netdev=nic,mac=${mac},romfile=,addr=0x5`],
    networkId === null ? [] : ['-netdev', 'user,id=user,ipv6=off', '-netdev', 'hubport,id=link,hubid=0,netdev=user'],
    ['-serial', 'chardev:console'],
  ]
}
