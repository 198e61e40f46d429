import { digestName } from './block-digest.ts'
import { blockBytes } from './block-grain.ts'
import type { AgentRole } from './control-protocol.ts'
import { TransferError } from './transfer-error.ts'

/** Version of the agents' own protocol: frame.ts and data-messages.ts. Another major can't talk with this one. */
const transferProtocol = { major: 1, minor: 1 } as const

/** The first frame of each side. */
export interface TransferHello {
  protocol: { major: number; minor: number }
  migrationId: string
  role: AgentRole
  blockBytes: number
  digest: string
  compression: string[]
}

export interface Agreement {
  /** From 1 on, blocks can be left out (exclusion-messages.ts). */
  minor: number
  compression: 'zstd' | null
}

export function transferHello(migrationId: string, role: AgentRole): TransferHello {
  return { protocol: transferProtocol, migrationId, role, blockBytes, digest: digestName, compression: ['zstd'] }
}

/** What both sides can do. Throws TransferError: PROTOCOL for a malformed hello, INCOMPATIBLE or PEER_REFUSED with both sides named. */
export function negotiate(own: TransferHello, received: Record<string, unknown>): Agreement {
  const peer = parseHello(received)
  if (peer.migrationId !== own.migrationId || peer.role === own.role) {
    throw new TransferError(
      'PEER_REFUSED',
      `The other agent says that it is the ${peer.role} of migration ${peer.migrationId}; expected was its counterpart in ${own.migrationId}.`,
      {
        retryable: false,
      },
    )
  }
  const differences = [
    peer.protocol.major === own.protocol.major ? null : `protocol ${own.protocol.major} here, ${peer.protocol.major} there`,
    peer.blockBytes === own.blockBytes ? null : `blocks of ${own.blockBytes} bytes here, of ${peer.blockBytes} there`,
    peer.digest === own.digest ? null : `digest ${own.digest} here, ${peer.digest} there`,
  ].filter((difference) => difference !== null)
  if (differences.length > 0) {
    throw new TransferError(
      'INCOMPATIBLE',
      `The two agents can't work together: ${differences.join('; ')}. Install both from the same release.`,
      {
        retryable: false,
      },
    )
  }
  const both = own.compression.filter((name) => peer.compression.includes(name))
  return { minor: Math.min(own.protocol.minor, peer.protocol.minor), compression: both.includes('zstd') ? 'zstd' : null }
}

function parseHello(value: Record<string, unknown>): TransferHello {
  const { protocol, migrationId, role, blockBytes, digest, compression } = value
  if (
    !isVersion(protocol) ||
    typeof migrationId !== 'string' ||
    (role !== 'SOURCE' && role !== 'DESTINATION') ||
    typeof blockBytes !== 'number' ||
    typeof digest !== 'string' ||
    !Array.isArray(compression) ||
    !compression.every((name) => typeof name === 'string')
  ) {
    throw new TransferError(
      'PROTOCOL',
      'The other agent introduced itself with a malformed message. The connection is given up and made again.',
      {
        retryable: true,
      },
    )
  }
  return { protocol, migrationId, role, blockBytes, digest, compression }
}

function isVersion(value: unknown): value is { major: number; minor: number } {
  return typeof value === 'object' && value !== null && 'major' in value && 'minor' in value && isCount(value.major) && isCount(value.minor)
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}
