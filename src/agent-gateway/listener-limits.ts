/** What a stranger, or a hostile guest, can make the control plane hold. */
export interface ListenerLimits {
  /** From the TCP connection to the end of the TLS handshake. */
  handshakeMs: number
  /** From the handshake to `hello`, or to the end of an enrolment. */
  greetingMs: number
  /** From a line's first byte to its newline. */
  partialLineMs: number
  /** Nothing came for so long from an agent that says every few seconds that it lives. */
  silenceMs: number
  /** Before a certificate was accepted. */
  maxEnrolLineBytes: number
  maxLineBytes: number
  /** Requests written and not yet taken by the agent. */
  maxUnsentBytes: number
  messagesPerSecond: number
  /** Connections that have not said hello yet; the oldest makes room for the newest. */
  maxUngreeted: number
  /** All of them, at each listening address. */
  maxConnections: number
}

export const defaultListenerLimits: ListenerLimits = {
  handshakeMs: 10_000,
  greetingMs: 10_000,
  partialLineMs: 30_000,
  silenceMs: 20_000,
  maxEnrolLineBytes: 16_384,
  maxLineBytes: 1_048_576,
  maxUnsentBytes: 4_194_304,
  messagesPerSecond: 200,
  maxUngreeted: 256,
  maxConnections: 2048,
}
