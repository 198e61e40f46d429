/** What an operator writes to connect a libvirt. Unknown options are refused. */
import { isIPv4 } from 'node:net'
import { z } from 'zod'
import { guestAccessOptions } from '../../src/plugin-sdk/index.ts'

const name = z.string().min(1).max(200)

export const libvirtOptions = z.strictObject({
  uri: z
    .string()
    .max(2000)
    .refine(isSafeUri, 'A libvirt URI of QEMU, such as qemu:///system or qemu+ssh://user@host/system, without no_verify')
    .describe('Where libvirtd answers'),
  storagePool: name.default('default').describe('The storage pool (a directory) for disks, overlays and landing images'),
  storagePools: z.array(name).max(32).default([]).describe('More pools (directories) where disks can be put'),
  region: name.default('libvirt').describe('Name of the region to show; a libvirt has one'),
  zone: name.default('default').describe('Name of the availability zone to show; a libvirt has one'),
  acceleration: z
    .enum(['emulation', 'kvm'])
    .default('emulation')
    .describe('kvm only where libvirtd offers it and it is known to work: /dev/kvm may exist, answer, and still hang guests'),
  diskCache: z.enum(['none', 'writeback']).default('none').describe("QEMU's cache mode; none needs a file system with O_DIRECT"),
  isolatedNetworks: z
    .string()
    .refine(isWideEnough, 'An IPv4 range such as 192.168.240.0/20, between /8 and /24')
    .default('192.168.240.0/20')
    .describe('Private range from which each VM under health check gets a subnet of 16 addresses'),
  controlPlaneAddress: z
    .string()
    .min(1)
    .max(255)
    .optional()
    .describe("Under which address guests reach this control plane. Default: their network's gateway, where libvirtd runs on this machine"),
  consoleDirectory: z
    .string()
    .regex(/^\/[^\0]*$/)
    .optional()
    .describe("Directory on libvirt's host where serial consoles are written, one file a VM"),
  limits: z
    .strictObject({
      maxVirtualMachines: z.int().positive().optional(),
      maxMemoryBytes: z.int().positive().optional().describe('Of all VMs made here together'),
      maxDiskBytes: z.int().positive().optional().describe('Of all disks made here together'),
    })
    .default({})
    .describe('Refuse new VMs beyond these, however much the host has'),
  guestAccess: guestAccessOptions,
})
export type LibvirtOptions = z.output<typeof libvirtOptions>

/** Only QEMU, and never a connection that skips checking who answers. */
function isSafeUri(uri: string): boolean {
  const parsed = URL.parse(uri)
  return (
    parsed !== null &&
    /^qemu(\+(unix|ssh|libssh|libssh2|tls))?:$/.test(parsed.protocol) &&
    (parsed.pathname === '/system' || parsed.pathname === '/session') &&
    !['no_verify', 'no_sanity', 'command'].some((parameter) => parsed.searchParams.has(parameter))
  )
}

/** `qemu:///system` and unix sockets are this machine's; every other URI names a host. */
export function isLocal(uri: string): boolean {
  const { host, protocol } = new URL(uri)
  return host === '' && /^qemu(\+unix)?:$/.test(protocol)
}

function isWideEnough(cidr: string): boolean {
  const [address = '', bits = ''] = cidr.split('/')
  return isIPv4(address) && /^\d+$/.test(bits) && Number(bits) >= 8 && Number(bits) <= 24
}
