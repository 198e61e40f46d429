/**
 * All that a migration's agents are trusted by, as it is kept, sealed, over a restart of the control plane. The single writer is the
 * migration's MigrationAgents.
 */
import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import type { AuthorityStore } from './authority-store.ts'
import { makeCertificateAuthority } from './certificate-authority.ts'

/** What `openSealKey` of src/secrets gives. */
export interface AuthoritySeal {
  seal(plain: string, context: string): string
  unseal(sealed: string, context: string): string
}

const enrolment = z.object({
  token: z.string(),
  /** The first key that came with the token, SPKI DER in base64; null until then. */
  boundPublicKey: z.string().nullable(),
})
const storedAuthority = z.object({
  version: z.literal(1),
  certificatePem: z.string(),
  privateKeyPem: z.string(),
  enrolments: z.object({ SOURCE: enrolment, DESTINATION: enrolment }),
  relayToken: z.string(),
})
export type StoredAuthority = z.infer<typeof storedAuthority>
export type Enrolment = z.infer<typeof enrolment>

export function newEnrolment(): Enrolment {
  return { token: newToken(), boundPublicKey: null }
}

/** What is stored for the migration, or a new authority, stored. Throws SealError when it was sealed with another key. */
export async function loadOrMakeAuthority(migrationId: string, store: AuthorityStore, sealKey: AuthoritySeal): Promise<StoredAuthority> {
  const sealed = await store.load(migrationId)
  if (sealed !== null) return storedAuthority.parse(JSON.parse(sealKey.unseal(sealed, context(migrationId))))
  const { certificatePem, privateKeyPem } = await makeCertificateAuthority(migrationId)
  const made: StoredAuthority = {
    version: 1,
    certificatePem,
    privateKeyPem,
    enrolments: { SOURCE: newEnrolment(), DESTINATION: newEnrolment() },
    relayToken: newToken(),
  }
  await saveAuthority(migrationId, made, store, sealKey)
  return made
}

export async function saveAuthority(
  migrationId: string,
  authority: StoredAuthority,
  store: AuthorityStore,
  sealKey: AuthoritySeal,
): Promise<void> {
  await store.save(migrationId, sealKey.seal(JSON.stringify(authority), context(migrationId)))
}

function context(migrationId: string): string {
  return `migration-authority/${migrationId}`
}

function newToken(): string {
  return randomBytes(32).toString('base64url')
}
