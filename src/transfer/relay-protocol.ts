/**
 * How an agent asks the relay for its peer, when the two can't reach each other: over plain TCP, one line
 *   agent -> {"relay": {token, role}}
 *   relay -> {"paired": {}}
 * and from then on every byte is the peer's. The agents run their own TLS through it, so the relay sees ciphertext only, and the token
 * opens nothing but this pairing: whoever steals it still lacks a certificate of the migration.
 * A closed connection is the relay's only refusal. The same token pairs again after a drop; a newer connection of a role replaces the older.
 */
import type { AgentRole } from './control-protocol.ts'

export interface RelayRequest {
  relay: { token: string; role: AgentRole }
}
export interface RelayPaired {
  paired: Record<string, never>
}

/** The longest line either side accepts, newline included. */
export const relayLineBytes = 256
