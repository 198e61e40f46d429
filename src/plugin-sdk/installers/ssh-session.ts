/**
 * One SSH connection into a guest: keys in memory only, the host key compared with the given ones, constant commands.
 * Every failure is a ProviderError that says whose fault it is.
 */
import { connect, type Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { Client, type ServerHostKeyAlgorithm } from 'ssh2'
import type { SshAccess } from '../contract.ts'
import { ProviderError } from '../errors.ts'

const handshakeTimeoutMs = 30_000
const closesWithinMs = 2_000
const keptOutputBytes = 64 * 1024

export interface SshSession {
  /**
   * Runs a POSIX shell script as root; `input` becomes its standard input. The script is trusted text: whatever came from a user goes in as input.
   * Throws TIMED_OUT when it neither read nor wrote anything nor ended for `idleTimeoutMs`.
   */
  run(script: string, options?: { input?: Readable | Buffer; idleTimeoutMs?: number }): Promise<ScriptResult>
  /** Ends when the connection is closed, which a guest that stands still can't keep from happening. */
  close(): Promise<void>
}

export interface ScriptResult {
  exitCode: number
  stdout: string
  /** The last 64 KiB. */
  stderr: string
}

/** Logs in, or throws UNREACHABLE, TIMED_OUT, UNAUTHORIZED (key or host key), INVALID_OPTIONS (unusable key) or CANCELLED. */
export async function openSshSession(access: SshAccess, signal: AbortSignal): Promise<SshSession> {
  const where = `${access.endpoint.host}:${access.endpoint.port}`
  const known = access.hostKeys.map(parseHostKey)
  const client = new Client()
  let socket: Socket | undefined
  let refusedHostKey = false
  let failure: ProviderError | undefined
  const closed = new Promise<void>((resolve) => client.once('close', () => resolve()))
  const lost = new Promise<never>((_, reject) => {
    // For as long as the session lives: an error event without a listener would end the process.
    client.on('error', (error) => reject((failure ??= describeFailure(error, where, access.user, refusedHostKey))))
    client.once('close', () => reject((failure ??= unreachable(where, 'the connection was closed'))))
  })
  lost.catch(() => {}) // each user of the session races against it
  const onAbort = () => {
    failure ??= new ProviderError('CANCELLED', `The work in the guest at ${where} was cancelled.`, {
      retryable: true,
      remedy: 'Start it again when it is wanted.',
      cause: signal.reason,
    })
    socket?.destroy()
  }

  const ready = new Promise<void>((resolve) => client.once('ready', () => resolve()))
  try {
    if (signal.aborted) onAbort()
    if (failure) throw failure
    // Of our own, since the client lets go of one that it has said goodbye on, and then can't cut it any more.
    socket = connect(access.endpoint)
    client.connect({
      sock: socket,
      username: access.user,
      privateKey: access.privateKey,
      readyTimeout: handshakeTimeoutMs,
      keepaliveInterval: 10_000,
      keepaliveCountMax: 3,
      algorithms: {
        serverHostKey: [...new Set(known.flatMap(({ algorithms }) => algorithms))],
        // Quickest where a guest's CPU is emulated or has no instructions for AES (measured: 13 against 7.5 MiB/s), and quick enough elsewhere.
        cipher: { prepend: ['chacha20-poly1305@openssh.com'], append: [], remove: [] },
      },
      hostVerifier: (key: Buffer) => {
        refusedHostKey = !known.some(({ blob }) => blob.equals(key))
        return !refusedHostKey
      },
    })
    signal.addEventListener('abort', onAbort, { once: true })
    await Promise.race([ready, lost])
  } catch (error) {
    signal.removeEventListener('abort', onAbort)
    socket?.destroy()
    throw error instanceof ProviderError ? error : unusableKey(access.user, error)
  }

  return {
    run: (script, { input = Buffer.alloc(0), idleTimeoutMs = 60_000 } = {}) =>
      Promise.race([runScript(client, asRoot(access.user, script), input, idleTimeoutMs, where), lost]),
    async close() {
      signal.removeEventListener('abort', onAbort)
      client.end()
      const forced = setTimeout(() => socket?.destroy(), closesWithinMs)
      await closed
      clearTimeout(forced)
    },
  }
}

/** The result, or ProviderError INTERNAL with what the script printed, where it exited with anything but 0. */
export async function expectSuccess(what: string, running: Promise<ScriptResult>): Promise<ScriptResult> {
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

function runScript(client: Client, command: string, input: Readable | Buffer, idleTimeoutMs: number, where: string): Promise<ScriptResult> {
  return new Promise((resolve, reject) => {
    // Listeners are attached in this very callback: a quick command's output and exit come in the same packet as the answer to exec.
    client.exec(command, (refused, channel) => {
      if (refused) return reject(unreachable(where, refused.message, refused))
      const output = { stdout: '', stderr: '' }
      let idle: NodeJS.Timeout | undefined
      const settle = (act: () => void) => {
        clearTimeout(idle)
        channel.destroy()
        act()
      }
      const alive = () => {
        clearTimeout(idle)
        idle = setTimeout(() => settle(() => reject(hung(where, idleTimeoutMs))), idleTimeoutMs)
      }
      const collect = (stream: 'stdout' | 'stderr') => (chunk: Buffer) => {
        alive()
        output[stream] = (output[stream] + chunk.toString('utf8')).slice(-keptOutputBytes)
      }
      alive()
      channel.on('data', collect('stdout'))
      channel.stderr.on('data', collect('stderr'))
      channel.on('drain', alive)
      channel.on('error', (error: Error) => settle(() => reject(unreachable(where, error.message, error))))
      // null: ended by a signal; undefined: the connection went away first.
      channel.on('close', (code?: number | null) => settle(() => resolve({ exitCode: code ?? -1, ...output })))
      if (Buffer.isBuffer(input)) channel.end(input)
      else input.on('error', (error) => settle(() => reject(error))).pipe(channel)
    })
  })
}

/** Quoted for the login shell, whichever it is; `sudo -n` never asks. */
function asRoot(user: string, script: string): string {
  const command = `sh -c '${script.replaceAll("'", `'\\''`)}'`
  return user === 'root' ? command : `sudo -n ${command}`
}

function parseHostKey(line: string): { blob: Buffer; algorithms: ServerHostKeyAlgorithm[] } {
  const [type = '', encoded = ''] = line.trim().split(/\s+/)
  const blob = Buffer.from(encoded, 'base64')
  const algorithms = hostKeyAlgorithms.get(type)
  if (!algorithms || blob.subarray(4, 4 + type.length).toString() !== type)
    throw new ProviderError(
      'INVALID_OPTIONS',
      `A host key of the guest access is not an OpenSSH public key: ${JSON.stringify(line.slice(0, 60))}.`,
      {
        retryable: false,
        remedy: 'Give a line of the guest\'s /etc/ssh/ssh_host_*_key.pub, such as "ssh-ed25519 AAAA…".',
        path: ['guestAccess', 'hostKeys'],
      },
    )
  return { blob, algorithms }
}

const hostKeyAlgorithms = new Map<string, ServerHostKeyAlgorithm[]>([
  ['ssh-ed25519', ['ssh-ed25519']],
  ['ecdsa-sha2-nistp256', ['ecdsa-sha2-nistp256']],
  ['ecdsa-sha2-nistp384', ['ecdsa-sha2-nistp384']],
  ['ecdsa-sha2-nistp521', ['ecdsa-sha2-nistp521']],
  ['ssh-rsa', ['rsa-sha2-512', 'rsa-sha2-256']],
])

function describeFailure(error: Error & { level?: string }, where: string, user: string, refusedHostKey: boolean): ProviderError {
  if (refusedHostKey || error.message.includes('no matching host key'))
    return new ProviderError(
      'UNAUTHORIZED',
      `The SSH server at ${where} does not have any of the host keys given for this guest; nothing was sent to it.`,
      {
        retryable: false,
        remedy: "Compare the guest's /etc/ssh/ssh_host_*_key.pub with the cloud's guestAccess, and find out who answers at that address.",
        path: ['guestAccess', 'hostKeys'],
        cause: error,
      },
    )
  if (error.level === 'client-authentication')
    return new ProviderError('UNAUTHORIZED', `The SSH server at ${where} refused the user ${JSON.stringify(user)} with the key given.`, {
      retryable: false,
      remedy: "Put the key's public half into the user's authorized_keys in the guest, or correct the cloud's guestAccess.",
      path: ['guestAccess', 'privateKey'],
      cause: error,
    })
  if (error.level === 'client-timeout' || /timed? ?out/i.test(error.message)) return hung(where, handshakeTimeoutMs, error)
  return unreachable(where, error.message, error)
}

function unreachable(where: string, why: string, cause?: unknown): ProviderError {
  return new ProviderError('UNREACHABLE', `The guest's SSH server at ${where} can't be reached: ${why}.`, {
    retryable: true,
    remedy: 'See that the VM is running, that its SSH server is up, and that nothing between blocks the port; then try again.',
    cause,
  })
}

function hung(where: string, timeoutMs: number, cause?: unknown): ProviderError {
  return new ProviderError('TIMED_OUT', `The guest at ${where} gave no sign of life over SSH for ${Math.round(timeoutMs / 1000)} s.`, {
    retryable: true,
    remedy: "See the VM's console and load, then try again.",
    cause,
  })
}

function unusableKey(user: string, cause: unknown): ProviderError {
  return new ProviderError(
    'INVALID_OPTIONS',
    `The private key given for the user ${JSON.stringify(user)} can't be used: ${messageOf(cause)}.`,
    {
      retryable: false,
      remedy: 'Give an unencrypted private key in OpenSSH or PEM format.',
      path: ['guestAccess', 'privateKey'],
      cause,
    },
  )
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
