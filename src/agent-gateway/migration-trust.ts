/** Who may speak as an agent of one migration: enrolment by one-time token, then certificates. */
import { createHash, timingSafeEqual, type X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContext } from 'node:tls'
import type { AgentBootstrap, AgentRole } from '../transfer/control-protocol.ts'
import type { EnrolRequest } from './agent-messages.ts'
import { canonicalPublicKey, openCertificateAuthority } from './certificate-authority.ts'
import { newEnrolment, type StoredAuthority } from './stored-authority.ts'

export interface MigrationTrust {
  readonly relayToken: string
  /** For the TLS handshake; its certificate is renewed at half of its life. */
  secureContext(): Promise<SecureContext>
  /** A leaf for the key, PEM. Throws EnrolmentRefused. The binding of token and key is durable before the leaf leaves. */
  enrol(request: EnrolRequest): Promise<string>
  /** The role that a verified certificate speaks for. Throws TypeError with the reason when it may not (any more). */
  roleOf(certificate: X509Certificate): AgentRole
  bootstrap(role: AgentRole, controlPlane: AgentBootstrap['controlPlane']): AgentBootstrap
  /** Whether an agent has used the token that `bootstrap` gives. */
  hasEnrolled(role: AgentRole): boolean
  /** A new token; the key bound before is refused from now on. */
  reissue(role: AgentRole): Promise<void>
}

export class EnrolmentRefused extends Error {
  override readonly name = 'EnrolmentRefused'
}

export function serverNameOf(migrationId: string): string {
  return `${migrationId}.migration.portolan.internal`
}

export async function createMigrationTrust(
  migrationId: string,
  initial: StoredAuthority,
  save: (authority: StoredAuthority) => Promise<void>,
): Promise<MigrationTrust> {
  const authority = await openCertificateAuthority(migrationId, initial)
  const serverName = serverNameOf(migrationId)
  let stored = initial
  let server: { context: Promise<SecureContext>; renewAt: number } | null = null
  /** One change at a time, so that of two first keys one wins. */
  let lastChange: Promise<unknown> = Promise.resolve()

  function change<T>(work: () => Promise<T>): Promise<T> {
    const result = lastChange.then(work)
    lastChange = result.catch(() => undefined)
    return result
  }
  async function bind(role: AgentRole, enrolment: StoredAuthority['enrolments'][AgentRole]): Promise<void> {
    const next = { ...stored, enrolments: { ...stored.enrolments, [role]: enrolment } }
    await save(next)
    stored = next
  }
  async function makeContext(): Promise<SecureContext> {
    const { keyPem, certificatePem } = await authority.issueServer(serverName)
    return createSecureContext({
      key: keyPem,
      cert: certificatePem,
      ca: authority.certificatePem,
      minVersion: 'TLSv1.3',
    })
  }

  return {
    relayToken: stored.relayToken,
    secureContext() {
      if (!server || Date.now() >= server.renewAt) {
        const renewed = { context: makeContext(), renewAt: Date.now() + 7 * 86_400_000 }
        server = renewed
        renewed.context.catch(() => {
          if (server === renewed) server = null
        })
      }
      return server.context
    },
    enrol({ token, role, publicKeyPem }) {
      return change(async () => {
        const enrolment = stored.enrolments[role]
        if (!sameText(token, enrolment.token)) {
          throw new EnrolmentRefused(`The token is not valid for the ${role} agent of this migration: install the agent again.`)
        }
        let key: string
        try {
          key = canonicalPublicKey(publicKeyPem).toString('base64')
        } catch (error) {
          throw new EnrolmentRefused(`The public key was refused: ${error instanceof Error ? error.message : String(error)}.`)
        }
        if (enrolment.boundPublicKey !== null && enrolment.boundPublicKey !== key) {
          throw new EnrolmentRefused('The token was already used with another key, and works for that one only: install the agent again.')
        }
        if (enrolment.boundPublicKey === null) await bind(role, { ...enrolment, boundPublicKey: key })
        return authority.issueLeaf(role, publicKeyPem)
      })
    },
    roleOf(certificate) {
      const fields = new Map(certificate.subject.split('\n').map((line) => line.split(/=(.*)/s) as [string, string]))
      const role = fields.get('CN')
      if (fields.get('O') !== migrationId) throw new TypeError('The certificate belongs to another migration.')
      if (role !== 'SOURCE' && role !== 'DESTINATION') throw new TypeError("The certificate is not an agent's.")
      const key = certificate.publicKey.export({ type: 'spki', format: 'der' }).toString('base64')
      if (stored.enrolments[role].boundPublicKey !== key)
        throw new TypeError(`The ${role} agent's certificate was replaced by a newer enrolment.`)
      return role
    },
    bootstrap(role, controlPlane) {
      return {
        migrationId,
        role,
        controlPlane,
        serverName,
        caCertificatePem: authority.certificatePem,
        enrolmentToken: stored.enrolments[role].token,
      }
    },
    hasEnrolled: (role) => stored.enrolments[role].boundPublicKey !== null,
    reissue(role) {
      return change(() => bind(role, newEnrolment()))
    },
  }
}

function sameText(one: string, other: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(one), digest(other))
}
