import { hostname } from 'node:os'
import { isAbsolute } from 'node:path'
import { z } from 'zod'
import { guestAccessOptions } from '../../src/plugin-sdk/index.ts'

const placeName = z.string().min(1).max(100)

/** What `connectCloud` takes for this plugin. Unknown members are refused. */
export const qemuOptions = z.strictObject({
  stateDirectory: z
    .string()
    .refine((path) => isAbsolute(path) && !path.includes('\0'), 'An absolute path')
    .describe('Where VMs, their disks and the records live. Made when missing, readable by its owner only'),
  storages: z
    .array(
      z.strictObject({
        id: z
          .string()
          .regex(/^[A-Za-z0-9._-]{1,60}$/, '1 to 60 letters, digits, dots, dashes')
          .refine((id) => id !== 'state', 'Another id than state, which is the state directory'),
        directory: z.string().refine((path) => isAbsolute(path) && !path.includes('\0'), 'An absolute path'),
      }),
    )
    .max(32)
    .refine((storages) => new Set(storages.map(({ id }) => id)).size === storages.length, 'Each id once')
    .default([])
    .describe('Other directories where disks can be put, each with an id of its own; the state directory itself has the id state'),
  region: placeName.default('local').describe('Name of the one region'),
  zone: placeName.default('local-a').describe('Name of the one availability zone'),
  host: placeName.default(hostname()).describe('Name of the one host: this machine'),
  qemuBinary: z.string().min(1).default('qemu-system-x86_64').describe('Path or name of the emulator'),
  qemuImgBinary: z.string().min(1).default('qemu-img').describe('Path or name of qemu-img'),
  accelerator: z
    .enum(['auto', 'tcg', 'kvm'])
    .default('auto')
    .describe('auto: KVM where a probe proves that it runs guests, else software emulation'),
  cpuModel: z
    .string()
    .regex(/^[A-Za-z0-9_.-]+$/, 'A QEMU CPU model')
    .optional()
    .describe('QEMU CPU model; by default host under KVM, qemu64 under emulation'),
  forwardAddress: z.ipv4().default('127.0.0.1').describe('Address of this machine on which guest ports are forwarded'),
  maxDiskBytes: z.int().positive().optional().describe('Most that the disks of all VMs may take together'),
  maxMemoryBytes: z.int().positive().optional().describe('Most memory that all VMs may be given together'),
  gracefulStopTimeoutMs: z.int().positive().default(120_000).describe('How long a guest may take to power off when asked'),
  guestAccess: guestAccessOptions,
})

export type QemuOptions = z.output<typeof qemuOptions>
