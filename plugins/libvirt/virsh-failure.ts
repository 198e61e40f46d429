/** What virsh prints when a call fails, as one of the SDK's errors. The texts are libvirt's own (src/util/virerror.c), in the C locale. */
import { ProviderError, type ProviderErrorCode } from '../../src/plugin-sdk/index.ts'

interface Meaning {
  pattern: RegExp
  code: ProviderErrorCode
  retryable: boolean
  remedy: string
  path?: string[]
}

/** libvirt's words, also added by client.ts where virsh swallows them. */
export const domainNotFound = 'Domain not found'

const keptCharacters = 4_000

const unreachable =
  /^(failed to connect to|Failed to reconnect to|Disconnected from|no valid connection)|Cannot (recv|write) data|End of file while reading data|client socket is closed|keepalive timeout|Broken pipe/m

/**
 * In this order: a refused login also says "failed to connect", so it comes before the connections. "Not found" makes callers go on as if something were gone,
 * so it has to begin a line, where no name stands.
 */
const meanings: Meaning[] = [
  {
    pattern:
      /authentication (failed|unavailable|cancelled)|access denied|failed to connect to the hypervisor.*(Permission denied|Host key verification failed|certificate)/is,
    code: 'UNAUTHORIZED',
    retryable: false,
    remedy: 'Check that this user may use the URI (group libvirt, SSH key and host key, or TLS certificate), then connect again.',
    path: ['options', 'uri'],
  },
  {
    pattern: unreachable,
    code: 'UNREACHABLE',
    retryable: true,
    remedy: 'Check that libvirtd runs and that the URI leads to it, then try again.',
    path: ['options', 'uri'],
  },
  {
    pattern: new RegExp(`^${domainNotFound}`, 'm'),
    code: 'NOT_FOUND',
    retryable: false,
    remedy: 'Refresh the topology: the virtual machine is no longer defined in this libvirt.',
    path: ['domain'],
  },
  {
    pattern: /^Storage pool not found/m,
    code: 'NOT_FOUND',
    retryable: false,
    remedy: "Create and start the storage pool, or name another one in the cloud's option storagePool.",
    path: ['options', 'storagePool'],
  },
  { pattern: /^Storage volume not found/m, code: 'NOT_FOUND', retryable: false, remedy: 'Refresh the storage pool.', path: ['volume'] },
  {
    pattern: /^Network not found/m,
    code: 'NOT_FOUND',
    retryable: false,
    remedy: 'Choose a network that `virsh net-list` shows.',
    path: ['network'],
  },
  { pattern: /^Secret not found/m, code: 'NOT_FOUND', retryable: false, remedy: 'Nothing is recorded under this key.', path: ['secret'] },
  {
    pattern: /No space left|not enough free|exceeds available|Cannot allocate memory|Disk quota exceeded/i,
    code: 'INSUFFICIENT_CAPACITY',
    retryable: true,
    remedy: "Free room on libvirt's host, then try again.",
  },
  {
    pattern: /already exists|already in use|already defined/i,
    code: 'CONFLICT',
    retryable: false,
    remedy: 'Choose another name, or remove what already has it.',
  },
  {
    pattern: /pool .* is not active|network .* is not active/i,
    code: 'CONFLICT',
    retryable: true,
    remedy: 'Start it with virsh, then try again.',
  },
  {
    pattern: /not supported|unsupported|Operation not supported/i,
    code: 'UNSUPPORTED',
    retryable: false,
    remedy: "See the message: this libvirt or QEMU can't do it.",
  },
]

/** `what` says what was tried, as in "start the virtual machine". */
export function virshFailure(what: string, stderr: string): ProviderError {
  const said = shortened(stderr)
    .split('\n')
    .map((line) => line.replace(/^error:\s*/, '').trim())
    .filter((line) => line !== '')
    .join('\n')
  const meaning = meanings.find(({ pattern }) => pattern.test(withoutNames(said)))
  return new ProviderError(
    meaning?.code ?? 'INTERNAL',
    `Could not ${what}: libvirt says ${JSON.stringify(said.replaceAll('\n', ' ').slice(0, 1000) || 'nothing')}.`,
    {
      retryable: meaning?.retryable ?? false,
      remedy: meaning?.remedy ?? "See libvirt's message and its log, and try again once the cause is mended.",
      path: meaning?.path ?? [],
    },
  )
}

/** Patterns take the square of a text's length, and libvirtd may send megabytes. What is told first and last is what counts. */
function shortened(stderr: string): string {
  return stderr.length <= 2 * keptCharacters ? stderr : `${stderr.slice(0, keptCharacters)}\n${stderr.slice(-keptCharacters)}`
}

/** Anybody may name a virtual machine "No space left". The apostrophes of "can't" and of names are no quotation marks. */
function withoutNames(said: string): string {
  return said.replace(/(?<!\w)'.*?'(?!\w)/g, "''")
}

/** libvirt refuses while it refreshes a pool after an upload, and while a virsh that outlived a killed plugin still works on the volume or domain. */
export function isPassing(stderr: string): boolean {
  return /asynchronous jobs running|is still (being allocated|in use)|cannot acquire state change lock/.test(
    withoutNames(shortened(stderr)),
  )
}

export function isNotFound(error: unknown, what: 'domain' | 'volume' | 'network' | 'secret'): boolean {
  return error instanceof ProviderError && error.code === 'NOT_FOUND' && error.path[0] === what
}
