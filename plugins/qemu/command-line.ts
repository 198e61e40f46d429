import { diskFile, type Forward, landingFiles, type Machine, type MachineDisk, overlayFile, receivedFile } from './machine.ts'
import { pidFile } from './qemu-process.ts'

/** What is found out about this machine before a VM starts. */
export interface HostFacts {
  accelerator: 'tcg' | 'kvm'
  cpuModel: string
  /** Whether the file system of the disks can be written past the page cache. */
  directIo: boolean
  forwardAddress: string
}

/** QEMU's arguments. It runs in the VM's directory, so every path but the pid file's is relative and free of user input. */
export function commandLine(directory: string, machine: Machine, host: HostFacts): string[] {
  const landing = machine.boot === 'LANDING' ? machine.landing : null
  const memoryBytes = Math.max(machine.memoryBytes, landing?.memoryBytes ?? 0)
  return [
    ['-nodefaults', '-no-user-config', '-display', 'none'],
    ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ['-pidfile', pidFile(directory)],
    ['-machine', `q35,accel=${host.accelerator}`, '-cpu', host.cpuModel],
    ['-smp', processors(machine.cpuCount, host.accelerator), '-m', `${memoryKiB(memoryBytes, host.accelerator)}K`],
    ['-uuid', machine.vmId, '-rtc', 'base=utc'],
    ['-qmp', 'unix:qmp.sock,server=on,wait=off', '-qmp', 'unix:status.sock,server=on,wait=off'],
    ['-chardev', 'file,id=serial0,path=serial.log,append=on', '-serial', 'chardev:serial0'],
    ['-object', 'rng-random,id=rng0,filename=/dev/urandom', '-device', 'virtio-rng-pci,rng=rng0,bus=pcie.0,addr=0x7'],
    ...machine.disks.map((disk) => diskArguments(disk, host, machine)),
    ...machine.nics.map((nic, position) => nicArguments(nic, position, machine, host)),
    landing ? ['-kernel', landingFiles.kernel, '-initrd', landingFiles.initrd, '-append', landing.commandLine] : [],
  ].flat()
}

/**
 * A machine that can have one processor alone is emulated without the guest's memory barriers: its `mfence` and `lock` become nothing (`-d op` shows it), though QEMU's
 * own threads serve its virtio queues. A notification can get lost then, and the queue stands still for good. Room for a second one brings them back.
 */
export function processors(cpuCount: number, accelerator: 'tcg' | 'kvm'): string {
  return accelerator === 'tcg' && cpuCount === 1 ? '1,maxcpus=2' : String(cpuCount)
}

/**
 * Under emulation QEMU's dirty log can lose pages where RAM is a multiple of 256 KiB (seen in 9 of 14 live migrations, and in 0 of 24 off that
 * grid), so such guests get 8 KiB less. QEMU itself rounds to 8 KiB.
 */
export function memoryKiB(memoryBytes: number, accelerator: 'tcg' | 'kvm'): number {
  const askedKiB = Math.floor(memoryBytes / 8192) * 8
  return accelerator === 'tcg' && askedKiB % 256 === 0 ? askedKiB - 8 : askedKiB
}

/**
 * Disks sit at slots of their own from 0x10 and NICs from 0x8, so that a guest finds the same hardware however it was booted. Where the host's file system is
 * full QEMU stops an ordinary guest until there is room, which spares its data; the landing image is told, or its agent would stand still without a word.
 */
function diskArguments(disk: MachineDisk, host: HostFacts, machine: Machine): string[] {
  const copied = copiedNodes(disk, host, machine)
  const nodes = disk.sealed ? [...copied, { ...overlayNode(disk, host), backing: `disk${disk.index}` }] : copied
  const top = disk.sealed ? `overlay${disk.index}` : `disk${disk.index}`
  return [
    ...nodes.flatMap((node) => ['-blockdev', JSON.stringify(node)]),
    '-device',
    [
      `virtio-blk-pci,id=virtio-disk${disk.index},drive=${top},serial=portolan-disk-${disk.index},write-cache=on`,
      `bootindex=${disk.index + 1},bus=pcie.0,addr=0x${(0x10 + disk.index).toString(16)}`,
      ...(machine.boot === 'LANDING' ? ['werror=report,rerror=report'] : []),
    ].join(','),
  ]
}

/**
 * The copied disk, the last of the nodes, is `diskN`. While the VM is adopted that is an overlay above its own disk, `retainedN`. Another VM's disk, below a test's overlay,
 * is never opened for writing.
 */
function copiedNodes({ index }: MachineDisk, host: HostFacts, { testOf, adopted }: Machine) {
  const readOnly = testOf === null ? {} : { 'read-only': true }
  const node = (driver: 'raw' | 'qcow2', name: string, file: string) => ({
    driver,
    'node-name': name,
    'detect-zeroes': 'off',
    ...readOnly,
    ...access(host),
    file: { driver: 'file', filename: testOf === null ? file : `../${testOf}/${file}`, ...readOnly, ...access(host) },
  })
  if (!adopted) return [node('raw', `disk${index}`, diskFile(index))]
  const retained = retainedNode({ index })
  return [node('raw', retained, diskFile(index)), { ...node('qcow2', `disk${index}`, receivedFile(index)), backing: retained }]
}

export const retainedNode = ({ index }: Pick<MachineDisk, 'index'>) => `retained${index}`

/** The overlay as a block node, without what it lies on. */
export function overlayNode(disk: MachineDisk, host: Pick<HostFacts, 'directIo'>) {
  return {
    driver: 'qcow2',
    'node-name': `overlay${disk.index}`,
    'detect-zeroes': 'off',
    ...access(host),
    file: { driver: 'file', filename: overlayFile(disk.index), ...access(host) },
  }
}

function access(host: Pick<HostFacts, 'directIo'>) {
  return { discard: 'unmap', cache: { direct: host.directIo, 'no-flush': false } }
}

function nicArguments(nic: { index: number; mac: string }, position: number, machine: Machine, host: HostFacts): string[] {
  const { user, link } = userNetdevs(position, machine, host.forwardAddress)
  const port = `port${position}`
  return [
    ['-netdev', JSON.stringify({ type: 'user', ...user }), '-netdev', JSON.stringify({ type: 'hubport', ...link })],
    ['-netdev', JSON.stringify({ type: 'hubport', id: port, hubid: position })],
    [
      '-device',
      `virtio-net-pci,id=nic${nic.index},netdev=${port},mac=${nic.mac},romfile=,bus=pcie.0,addr=0x${(8 + position).toString(16)}`,
    ],
  ].flat()
}

/**
 * A user-mode network and its plug into the NIC's hub. The NIC has a plug of its own that never moves, so the network behind it can be replaced while
 * the guest runs. The first NIC has the port forwards. IPv6 is off: only IPv4 is isolated and forwarded here.
 */
export function userNetdevs(position: number, machine: { isolated: boolean; forwards: Forward[] }, forwardAddress: string) {
  const forwards = position === 0 ? machine.forwards : []
  return {
    user: {
      id: `user${position}`,
      ipv6: false,
      restrict: machine.isolated,
      hostfwd: forwards.map(({ guestPort, hostPort }) => ({ str: `tcp:${forwardAddress}:${hostPort}-:${guestPort}` })),
    },
    link: { id: `link${position}`, hubid: position, netdev: `user${position}` },
  }
}
