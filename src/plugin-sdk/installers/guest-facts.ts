/** What the SSH installer asks of a guest before it writes anything there. */
import type { GuestFinding } from '../contract.ts'
import { ProviderError, type ProviderErrorCode } from '../errors.ts'
import type { AgentBundle } from './agent-bundle.ts'
import { installBases, probeScript } from './guest-scripts.ts'
import { expectSuccess, type SshSession } from './ssh-session.ts'

/** What the agent needs beside its files: Node's heap and buffers. */
const agentMemoryBytes = 64 * 1024 * 1024

/** What the builds of Node are made for. Everything above the kernel comes with the agent. */
const oldestKernel = { major: 4, minor: 18 }

export interface GuestFacts {
  machine: string
  /** Release of the kernel, such as `6.1.0-30-amd64`. */
  kernel: string
  memoryAvailableBytes: number
  missingTools: string[]
  hasTracefs: boolean
  /** The file system in RAM that the agent's tmpfs is mounted on. */
  base: (typeof installBases)[number] | undefined
  /** Something of an install is there, whole or not. */
  present: boolean
  /** Digest of the operation whose agent lives there. */
  installed: string | undefined
}

/** Changes nothing. Throws UNAUTHORIZED where the login is not root. */
export async function probeGuest(session: SshSession): Promise<GuestFacts> {
  const { stdout } = await expectSuccess('look at the guest', session.run(probeScript))
  const values = (key: string) =>
    stdout.split('\n').flatMap((line) => (line.startsWith(`${key}=`) ? [line.slice(key.length + 1).trim()] : []))
  if (values('uid')[0] !== '0')
    throw new ProviderError('UNAUTHORIZED', 'The login given for the guest is not root there.', {
      retryable: false,
      remedy: "Name a user that is root, or may run sudo without a password, in the cloud's guestAccess.",
      path: ['guestAccess', 'user'],
    })
  return {
    machine: values('machine')[0] ?? '',
    kernel: values('kernel')[0] ?? '',
    memoryAvailableBytes: kibibytes(values('memory_kib')[0]) * 1024,
    missingTools: values('missing'),
    hasTracefs: values('tracefs').length > 0,
    base: installBases.find((candidate) => values('base').includes(candidate)),
    present: values('present').length > 0,
    installed: values('installed')[0],
  }
}

/** Everything that keeps the agent from working well there, with the error that an install would end with. */
export function misfits(bundle: AgentBundle, guest: GuestFacts): { finding: GuestFinding; error: ProviderErrorCode }[] {
  const found: { finding: GuestFinding; error: ProviderErrorCode }[] = []
  const blocker = (code: string, message: string, remedy: string, error: ProviderErrorCode = 'UNSUPPORTED') =>
    found.push({ finding: { code, severity: 'BLOCKER', message, remedy }, error })

  if (guest.machine !== bundle.architecture)
    blocker(
      'GUEST_ARCHITECTURE',
      `The guest runs on ${guest.machine || 'an unknown architecture'}, and the agent was built for ${bundle.architecture}.`,
      `Run the control plane on ${guest.machine || "the guest's architecture"}, whose set-up builds an agent for it.`,
    )
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(guest.kernel) ?? []
  if ((Number(major) - oldestKernel.major || Number(minor) - oldestKernel.minor) < 0)
    blocker(
      'GUEST_KERNEL',
      `The guest's kernel is ${guest.kernel || 'of an unknown release'}, and the agent's Node asks for Linux ${oldestKernel.major}.${oldestKernel.minor} or newer.`,
      'Boot the guest with a newer kernel.',
    )
  if (guest.missingTools.length > 0)
    blocker(
      'GUEST_TOOLS',
      `The guest lacks ${guest.missingTools.join(', ')}, which installing the agent needs.`,
      'Install them in the guest.',
    )
  if (!guest.base)
    blocker(
      'GUEST_NO_RAM_FILE_SYSTEM',
      `The guest has no file system in RAM at ${installBases.join(', ')}.`,
      'Mount a tmpfs at /run in the guest.',
    )
  const neededBytes = bundle.unpackedBytes + agentMemoryBytes
  if (guest.memoryAvailableBytes < neededBytes)
    blocker(
      'GUEST_MEMORY',
      `The guest has ${mebibytes(guest.memoryAvailableBytes)} MiB of memory available, and the agent needs ${mebibytes(neededBytes)} MiB.`,
      'Free memory in the guest, or give it more.',
      'INSUFFICIENT_CAPACITY',
    )
  if (!guest.hasTracefs)
    found.push({
      finding: {
        code: 'NO_TRACEFS',
        severity: 'WARNING',
        message:
          "The guest's kernel has no tracefs, or is locked down and keeps it shut, so rounds will rescan: each reads the whole disk to find what changed.",
        remedy: 'Boot the guest with a kernel that has tracing and is not locked down to confidentiality, or accept longer rounds.',
      },
      error: 'UNSUPPORTED',
    })
  return found
}

/** Throws the first blocker as a ProviderError. */
export function requireFit(bundle: AgentBundle, guest: GuestFacts): { base: (typeof installBases)[number] } {
  const blocker = misfits(bundle, guest).find(({ finding }) => finding.severity === 'BLOCKER')
  if (blocker || !guest.base)
    throw new ProviderError(blocker?.error ?? 'UNSUPPORTED', blocker?.finding.message ?? 'The guest can not run the agent.', {
      retryable: blocker?.error === 'INSUFFICIENT_CAPACITY',
      remedy: blocker?.finding.remedy ?? 'Look at the findings of the pre-flight check.',
    })
  return { base: guest.base }
}

/** What is no number counts as no memory: a guest that can't tell is refused, and asked to be looked at. */
function kibibytes(text = ''): number {
  return /^\d{1,12}$/.test(text) ? Number(text) : 0
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 1024 / 1024)
}
