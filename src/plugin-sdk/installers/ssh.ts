/**
 * Installs the migration agent over SSH, on a tmpfs of its own: nothing is written to the guest's disk by us, and nothing stays after uninstall.
 * (What the guest's own SSH server logs about a login is the guest's.)
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { basename } from 'node:path'
import { Readable } from 'node:stream'
import type { GuestFinding, InjectedFile, ProviderConnection, Query, SshAccess } from '../contract.ts'
import { ProviderError } from '../errors.ts'
import { readAgentBundle } from './agent-bundle.ts'
import { misfits, probeGuest, requireFit } from './guest-facts.ts'
import { removeScript, startScript, unpackScript } from './guest-scripts.ts'
import { expectSuccess, openSshSession, type SshSession } from './ssh-session.ts'
import { tarEntries } from './tar-entries.ts'

/** Room on the tmpfs for logs and state. */
const spareBytes = 32 * 1024 * 1024
const installTimeoutMs = 10 * 60_000
const inspectTimeoutMs = 60_000
const uninstallTimeoutMs = 2 * 60_000

/**
 * `migrationAgent` for providers whose guests are reached by SSH. `access` is asked anew at every call.
 * Install throws UNSUPPORTED (architecture, kernel, tools), INSUFFICIENT_CAPACITY (memory), and what openSshSession throws;
 * a repeated install whose agent still lives does nothing, any other clears what is there first.
 */
export function sshInstaller(options: { access(vmId: string): Promise<SshAccess> }): ProviderConnection['migrationAgent'] {
  return {
    async install(request) {
      const bundle = await readAgentBundle(request.bundleDirectory)
      const injected = tarEntries(request.inject.map(besideTheAgent))
      const operationDigest = createHash('sha256').update(request.operationId).digest('hex')
      await inGuest(await options.access(request.vmId), request, installTimeoutMs, async (session) => {
        const guest = await probeGuest(session)
        if (guest.installed === operationDigest) return
        if (guest.present) await remove(session)
        const { base } = requireFit(bundle, guest.present ? await probeGuest(session) : guest)
        // Few commands and one stream each: the login shell alone takes an emulated guest a quarter of a second.
        const send = async (what: string, script: string, input: Readable) => {
          try {
            await expectSuccess(what, session.run(script, { input }))
          } finally {
            input.destroy()
          }
        }
        await send(
          'unpack the agent',
          unpackScript(base, bundle.unpackedBytes + spareBytes),
          Readable.from(after(injected, bundle.archivePath)),
        )
        await send('start the agent', startScript(base, operationDigest), fileStream(bundle.compressedNodePath))
      })
    },

    async inspect(query) {
      const bundle = await readAgentBundle(query.bundleDirectory)
      let findings: GuestFinding[] = []
      await inGuest(await options.access(query.vmId), query, inspectTimeoutMs, async (session) => {
        findings = misfits(bundle, await probeGuest(session)).map(({ finding }) => finding)
      })
      return findings
    },

    async uninstall(operation) {
      await inGuest(await options.access(operation.vmId), operation, uninstallTimeoutMs, remove)
    },
  }
}

async function inGuest(
  access: SshAccess,
  { signal }: Query,
  timeoutMs: number,
  work: (session: SshSession) => Promise<void>,
): Promise<void> {
  const timeout = AbortSignal.timeout(timeoutMs)
  const session = await openSshSession(access, signal ? AbortSignal.any([signal, timeout]) : timeout)
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

async function remove(session: SshSession): Promise<void> {
  await expectSuccess('remove the agent', session.run(removeScript))
}

async function* after(first: Buffer, path: string): AsyncGenerator<Buffer> {
  yield first
  yield* fileStream(path)
}

function fileStream(path: string): Readable {
  return createReadStream(path, { highWaterMark: 256 * 1024 })
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
