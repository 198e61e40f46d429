/**
 * Installs the migration agent over SSH, on a tmpfs of its own: nothing is written to the guest's disk by us, and nothing stays after uninstall.
 * (What the guest's own SSH server logs about a login is the guest's.)
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { basename } from 'node:path'
import type { InjectedFile, Operation, ProviderConnection, SshAccess } from '../contract.ts'
import { ProviderError } from '../errors.ts'
import { type AgentBundle, readAgentBundle } from './agent-bundle.ts'
import { injectScript, installBases, probeScript, removeScript, startScript, unpackScript } from './guest-scripts.ts'
import { openSshSession, type ScriptResult, type SshSession } from './ssh-session.ts'
import { tarArchive } from './tar-archive.ts'

/** What the agent needs beside its files: Node's heap and buffers. */
const agentMemoryBytes = 64 * 1024 * 1024
/** Room on the tmpfs for logs and state. */
const spareBytes = 32 * 1024 * 1024
const installTimeoutMs = 10 * 60_000
const uninstallTimeoutMs = 2 * 60_000

/**
 * `migrationAgent` for providers whose guests are reached by SSH. `access` is asked anew at every call.
 * Install throws UNSUPPORTED (architecture, libc, tools), INSUFFICIENT_CAPACITY (memory), and what openSshSession throws;
 * a repeated install whose agent still lives does nothing, any other clears what is there first.
 */
export function sshInstaller(options: { access(vmId: string): Promise<SshAccess> }): ProviderConnection['migrationAgent'] {
  return {
    async install(request) {
      const bundle = await readAgentBundle(request.bundleDirectory)
      const injected = tarArchive(request.inject.map(besideTheAgent))
      const operationDigest = createHash('sha256').update(request.operationId).digest('hex')
      await inGuest(await options.access(request.vmId), request, installTimeoutMs, async (session) => {
        const guest = await probe(session)
        if (guest.installed === operationDigest) return
        await remove(session)
        const base = requireRoomFor(bundle, await probe(session))
        const archive = createReadStream(bundle.archivePath, { highWaterMark: 256 * 1024 })
        try {
          await expectSuccess('unpack the agent', session.run(unpackScript(base, bundle.unpackedBytes + spareBytes), { input: archive }))
        } finally {
          archive.destroy()
        }
        await expectSuccess('write the injected files', session.run(injectScript(base), { input: injected }))
        await expectSuccess('start the agent', session.run(startScript(base, operationDigest)))
      })
    },

    async uninstall(operation) {
      await inGuest(await options.access(operation.vmId), operation, uninstallTimeoutMs, remove)
    },
  }
}

async function inGuest(
  access: SshAccess,
  operation: Operation,
  timeoutMs: number,
  work: (session: SshSession) => Promise<void>,
): Promise<void> {
  const timeout = AbortSignal.timeout(timeoutMs)
  const session = await openSshSession(access, operation.signal ? AbortSignal.any([operation.signal, timeout]) : timeout)
  try {
    await work(session)
  } catch (error) {
    if (!timeout.aborted) throw error
    throw new ProviderError('TIMED_OUT', `The work in the guest did not end within ${timeoutMs / 1000} s and was stopped.`, {
      retryable: true,
      remedy: "See the guest's load, then try again: it starts over from a clean state.",
      cause: error,
    })
  } finally {
    await session.close()
  }
}

interface GuestFacts {
  machine: string
  glibc: string
  memoryAvailableBytes: number
  missingTools: string[]
  base: (typeof installBases)[number] | undefined
  installed: string | undefined
}

async function probe(session: SshSession): Promise<GuestFacts> {
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
    glibc: values('glibc')[0] ?? '',
    memoryAvailableBytes: Number(values('memory_kib')[0] ?? 0) * 1024,
    missingTools: values('missing'),
    base: installBases.find((candidate) => values('base').includes(candidate)),
    installed: values('installed')[0],
  }
}

/** Which of the guest's file systems in RAM the tmpfs is mounted on; throws when the guest can't run the bundle. */
function requireRoomFor(bundle: AgentBundle, guest: GuestFacts): (typeof installBases)[number] {
  if (guest.machine !== bundle.architecture)
    throw unsupported(
      `The guest runs on ${guest.machine || 'an unknown architecture'}, and the agent was built for ${bundle.architecture}.`,
    )
  const [, major = '0', minor = '0'] = /^glibc (\d+)\.(\d+)/.exec(guest.glibc) ?? []
  const needed = bundle.glibc
  if (needed && (Number(major) - needed.major || Number(minor) - needed.minor) < 0)
    throw unsupported(`The guest has ${guest.glibc || 'no glibc'}, and the agent needs glibc ${needed.major}.${needed.minor} or newer.`)
  if (guest.missingTools.length > 0)
    throw unsupported(`The guest lacks ${guest.missingTools.join(', ')}, which installing the agent needs.`)
  if (!guest.base) throw unsupported(`The guest has no file system in RAM at ${installBases.join(', ')}.`)
  const neededBytes = bundle.unpackedBytes + agentMemoryBytes
  if (guest.memoryAvailableBytes < neededBytes)
    throw new ProviderError(
      'INSUFFICIENT_CAPACITY',
      `The guest has ${mebibytes(guest.memoryAvailableBytes)} MiB of memory available, and the agent needs ${mebibytes(neededBytes)} MiB.`,
      { retryable: true, remedy: 'Free memory in the guest, or give it more, and try again.' },
    )
  return guest.base
}

async function remove(session: SshSession): Promise<void> {
  await expectSuccess('remove the agent', session.run(removeScript))
}

async function expectSuccess(what: string, running: Promise<ScriptResult>): Promise<ScriptResult> {
  const result = await running
  if (result.exitCode === 0) return result
  throw new ProviderError(
    'INTERNAL',
    `Could not ${what} in the guest (exit code ${result.exitCode}): ${result.stderr.trim() || 'it printed nothing'}.`,
    {
      retryable: true,
      remedy: "Try again; if it stays, run the agent's uninstall and look at the guest's memory and mounts.",
    },
  )
}

/** Only the last part of the path counts in a guest that keeps running its own system: the file lies beside the agent, for root alone. */
function besideTheAgent(file: InjectedFile): { name: string; mode: number; content: Buffer } {
  const name = basename(file.path)
  if (!/^[A-Za-z0-9_][A-Za-z0-9._-]{0,90}$/.test(name))
    throw new ProviderError('INTERNAL', `The file name ${JSON.stringify(name)} can't be injected beside the agent.`, {
      retryable: false,
      remedy: 'Use letters, digits, dots, dashes and underscores.',
      path: ['inject', file.path],
    })
  return { name, mode: 0o600, content: Buffer.from(file.content) }
}

function unsupported(message: string): ProviderError {
  return new ProviderError('UNSUPPORTED', message, {
    retryable: false,
    remedy: 'Use another way to move this virtual machine, or change the guest.',
  })
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 1024 / 1024)
}
