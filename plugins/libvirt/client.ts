/** The only user of virsh. Arguments are passed as a list, never through a shell; output is read in the C locale. */
import { spawn } from 'node:child_process'
import { mkdtemp, open, rm, writeFile, type FileHandle } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { askTogether, type VirshResult } from './asked-together.ts'
import { domainNotFound, isPassing, virshFailure } from './virsh-failure.ts'
import { readXml, writeXml, type XmlElement } from './xml.ts'

const defaultTimeoutMs = 60_000
const longestOutputBytes = 64 * 1024 * 1024
const passingRefusals = { tries: 300, intervalMs: 200 }

export interface CallOptions {
  /** What is tried, for error messages: "start the virtual machine". */
  what: string
  signal?: AbortSignal | undefined
  timeoutMs?: number
  /** virsh finds it as `givenFile`. (It takes names only, and can't open the sockets that Node uses as pipes.) */
  file?: FileHandle
}

export type LookOptions = Pick<CallOptions, 'what' | 'signal'>

export interface LibvirtClient {
  uri: string
  /** virsh's output, white space at its ends removed. Values of options come after their `--option`, so that no name is taken for one. */
  call(args: readonly string[], options: CallOptions): Promise<string>
  /** The same for commands that change nothing: those that are asked for at once share a process. */
  look(args: readonly string[], options: LookOptions): Promise<string>
  /** The same for such commands that print XML. */
  read(args: readonly string[], options: LookOptions): Promise<XmlElement>
  /** For commands that take an XML file: `--file` and the tree's file are added to the arguments. */
  define(args: readonly string[], tree: XmlElement, options: CallOptions): Promise<string>
}

/** No connection is held: each call opens its own, and ends by itself when libvirtd stops answering. */
export function libvirtClient(uri: string): LibvirtClient {
  const connect = ['--connect', withoutPrompts(uri), '--quiet', '--keepalive-interval', '5', '--keepalive-count', '3']

  const call: LibvirtClient['call'] = async (args, options) => {
    for (let attempt = 1; ; attempt++) {
      const result = await runVirsh([...connect, ...args], options)
      if (result.exitCode === 0) return result.stdout.trim()
      if (!isPassing(result.stderr) || attempt === passingRefusals.tries)
        throw virshFailure(options.what, await fullAnswer(result.stderr, options))
      await pause(passingRefusals.intervalMs, undefined, options.signal ? { signal: options.signal } : {}).catch(() => {
        throw cancelled(options.what)
      })
    }
  }

  /**
   * Of a domain that virsh can't get it doesn't say why: libvirtd may have said "not found", or nothing. So libvirtd is asked for all that it has,
   * and only its whole list without the domain is an answer.
   */
  const fullAnswer = async (stderr: string, options: CallOptions) => {
    const [, missing] = /failed to get domain '([^']*)'/.exec(stderr) ?? []
    if (missing === undefined) return stderr
    const list = await runVirsh([...connect, 'list', '--all', '--uuid'], options)
    if (list.exitCode !== 0) return list.stderr
    return list.stdout.includes(missing) ? stderr : `${stderr}\nerror: ${domainNotFound}`
  }

  const ask = askTogether(
    (script, options) => runVirsh([...connect, script], options),
    ({ args, ...options }) => call(args, options),
  )
  const look: LibvirtClient['look'] = (args, options) => ask({ args, ...options })

  return {
    uri,
    call,
    look,
    read: async (args, options) => readXml(await look(args, options)),
    async define(args, tree, options) {
      const xml = writable(tree, options.what)
      const file = await namelessFile((path) => writeFile(path, xml))
      try {
        return await call([...args, '--file', givenFile], { ...options, file })
      } finally {
        await file.close()
      }
    },
  }
}

/** How virsh names the file given in a call's options. */
export const givenFile = '/dev/fd/3'

/** A temporary file that has lost its name before anybody uses it: however this process ends, nothing of it stays. */
export async function namelessFile(write: (path: string) => Promise<void> = (path) => writeFile(path, '')): Promise<FileHandle> {
  const directory = await mkdtemp(join(tmpdir(), 'portolan-libvirt-'))
  try {
    const path = join(directory, 'file')
    await write(path)
    return await open(path)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** Over SSH, virsh would ask for a password on a terminal that nobody watches. */
function withoutPrompts(uri: string): string {
  if (!/^qemu\+(ssh|libssh2?):/.test(uri) || uri.includes('no_tty=')) return uri
  return `${uri}${uri.includes('?') ? '&' : '?'}no_tty=1`
}

function runVirsh(args: string[], options: CallOptions): Promise<VirshResult> {
  const { what, signal, timeoutMs = defaultTimeoutMs, file } = options
  if (signal?.aborted) return Promise.reject(cancelled(what))
  return new Promise((done, fail) => {
    const timeout = AbortSignal.timeout(timeoutMs)
    const child = spawn('virsh', args, {
      env: { ...process.env, LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'pipe', ...(file ? [file.fd] : [])],
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      killSignal: 'SIGKILL',
    })
    const output = { stdout: '', stderr: '' }
    let failure: Error | undefined
    for (const stream of ['stdout', 'stderr'] as const)
      child[stream]?.setEncoding('utf8').on('data', (text: string) => {
        output[stream] += text
        if (output[stream].length <= longestOutputBytes) return
        failure ??= virshFailure(what, `more than ${longestOutputBytes} bytes`)
        child.kill('SIGKILL')
      })
    child.on('error', (error: NodeJS.ErrnoException) => {
      failure = signal?.aborted ? cancelled(what) : timeout.aborted ? timedOut(what, timeoutMs) : notStarted(what, error)
      if (child.pid === undefined) fail(failure)
    })
    // Only once virsh is gone: a cancel is acknowledged when nothing moves any more.
    child.on('close', (exitCode, endedBy) => {
      failure ??= endedBy ? broken(what, endedBy) : undefined
      if (failure) fail(failure)
      else done({ exitCode, ...output })
    })
  })
}

function writable(tree: XmlElement, what: string): string {
  try {
    return writeXml(tree)
  } catch (error) {
    throw new ProviderError('UNSUPPORTED', `Could not ${what}: ${error instanceof Error ? error.message : String(error)}`, {
      retryable: false,
      remedy: 'Use names without control characters.',
      cause: error,
    })
  }
}

export function cancelled(what: string): ProviderError {
  return new ProviderError('CANCELLED', `Cancelled while trying to ${what}; it may or may not have been applied.`, {
    retryable: true,
    remedy: 'Send the same operation again to have it completed, or its opposite to undo it.',
  })
}

function timedOut(what: string, timeoutMs: number): ProviderError {
  return new ProviderError(
    'TIMED_OUT',
    `libvirt gave no answer within ${timeoutMs / 1000} s when asked to ${what}; it may have been applied.`,
    {
      retryable: true,
      remedy: "Check that libvirtd answers and isn't overloaded, then send the same operation again.",
    },
  )
}

/** SIGPIPE, without a word, is how virsh ends in some of a hundred cases where the ssh that it started ended first: nobody listens there. */
function broken(what: string, endedBy: NodeJS.Signals): ProviderError {
  return new ProviderError(
    'UNREACHABLE',
    `The connection to libvirt broke before it could ${what} (virsh was ended by ${endedBy}); it may have been applied.`,
    {
      retryable: true,
      remedy: 'Check that libvirtd runs and that the URI leads to it, then send the same operation again.',
      path: ['options', 'uri'],
    },
  )
}

function notStarted(what: string, error: NodeJS.ErrnoException): ProviderError {
  return new ProviderError('UNREACHABLE', `Could not ${what}: the command virsh could not be run here (${error.message}).`, {
    retryable: error.code !== 'ENOENT',
    remedy: 'Install virsh where the control plane runs (Debian and Ubuntu: apt-get install libvirt-clients).',
    cause: error,
  })
}
