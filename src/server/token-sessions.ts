/** What is open under which token, so that it ends when the token is revoked, by whichever control plane on this database. */
import type { Changes } from '../../schema/context.ts'
import type { Actor } from '../workflows/operations.ts'
import type { Authenticate } from './authenticate.ts'

export interface TokenSessions {
  /** Who the `Authorization` value belongs to, or null. `end` is called once, should that token be revoked before `forget` is called. */
  open(authorization: unknown, end: () => void): Promise<{ actor: Actor; forget: () => void } | null>
  /** Stops listening. */
  close(): void
}

interface Session {
  actor: Actor
  authorization: unknown
  end: () => void
}

export function createTokenSessions(authenticate: Authenticate, changes: Changes, onError: (error: unknown) => void): TokenSessions {
  const sessions = new Set<Session>()
  let revocations = 0

  const ignore = changes.listen({ topics: ['API_TOKEN'] }, () => {
    revocations++
    for (const session of sessions) endIfRevoked(session).catch(onError)
  })

  async function endIfRevoked(session: Session): Promise<void> {
    if ((await authenticate(session.authorization)) || !sessions.delete(session)) return
    session.end()
  }

  return {
    async open(authorization, end) {
      for (;;) {
        const before = revocations
        const actor = await authenticate(authorization)
        if (!actor) return null
        // A token that was revoked while it was looked up must not slip between the look and the listening.
        if (revocations !== before) continue
        const session = { actor, authorization, end }
        sessions.add(session)
        return { actor, forget: () => void sessions.delete(session) }
      }
    },
    close() {
      ignore()
      sessions.clear()
    },
  }
}
