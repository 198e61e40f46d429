/**
 * A certificate authority for one migration: made with it, kept sealed, destroyed after it (or for one child of a job, and then never stored). It signs the listener's certificate and
 * one leaf for each agent, whose key was born in the guest. Nothing outside the migration trusts it.
 *
 * Validity begins a day early, because a guest's clock may be behind; a leaf lasts 14 days, and an agent that outlives it enrols again
 * with the same key.
 */
import 'reflect-metadata'
import { createPublicKey, type KeyObject, randomBytes } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import type { AgentRole } from '../transfer/control-protocol.ts'

export interface CertificateAuthority {
  certificatePem: string
  /** PKCS 8 PEM: for sealed storage only. */
  privateKeyPem: string
  /** A key and certificate for TLS at `serverName`. A new key at each call. */
  issueServer(serverName: string): Promise<{ keyPem: string; certificatePem: string; notAfter: Date }>
  /** CN = role, O = migration id. `publicKeyPem`: SPKI, EC P-256 or Ed25519; throws TypeError for anything else. */
  issueLeaf(role: AgentRole | 'CONTROL_PLANE', publicKeyPem: string): Promise<string>
}

const dayMs = 86_400_000
const clockSlackMs = dayMs
const leafValidityMs = 14 * dayMs
const authorityValidityMs = 365 * dayMs
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const

export async function makeCertificateAuthority(migrationId: string, now: () => number = Date.now): Promise<CertificateAuthority> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: subject('AUTHORITY', migrationId),
    notBefore: new Date(now() - clockSlackMs),
    notAfter: new Date(now() + authorityValidityMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  const privateKeyPem = await privateKeyPemOf(keys.privateKey)
  return openCertificateAuthority(migrationId, { certificatePem: certificate.toString('pem'), privateKeyPem }, now)
}

/** The same authority again from what was stored. */
export async function openCertificateAuthority(
  migrationId: string,
  stored: { certificatePem: string; privateKeyPem: string },
  now: () => number = Date.now,
): Promise<CertificateAuthority> {
  const authority = new x509.X509Certificate(stored.certificatePem)
  const der = x509.PemConverter.decodeFirst(stored.privateKeyPem)
  const signingKey = await crypto.subtle.importKey('pkcs8', der, algorithm, false, ['sign'])

  async function issue(name: string, publicKey: x509.PublicKey, extensions: x509.Extension[]): Promise<x509.X509Certificate> {
    return x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: subject(name, migrationId),
      issuer: authority.subject,
      notBefore: new Date(now() - clockSlackMs),
      notAfter: new Date(now() + leafValidityMs),
      signingAlgorithm: algorithm,
      publicKey,
      signingKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        await x509.AuthorityKeyIdentifierExtension.create(authority.publicKey),
        ...extensions,
      ],
    })
  }

  return {
    ...stored,
    async issueServer(serverName) {
      const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
      const certificate = await issue('CONTROL_PLANE', await x509.PublicKey.create(keys.publicKey), [
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: serverName }]),
      ])
      const keyPem = await privateKeyPemOf(keys.privateKey)
      return { keyPem, certificatePem: certificate.toString('pem'), notAfter: certificate.notAfter }
    },
    async issueLeaf(role, publicKeyPem) {
      const { clientAuth, serverAuth } = x509.ExtendedKeyUsage
      const usages = role === 'DESTINATION' ? [clientAuth, serverAuth] : [clientAuth]
      const publicKey = new x509.PublicKey(new Uint8Array(canonicalPublicKey(publicKeyPem)))
      return (await issue(role, publicKey, [new x509.ExtendedKeyUsageExtension(usages)])).toString('pem')
    },
  }
}

/** The key's one true SPKI DER, so that two spellings of a PEM compare equal. Throws TypeError for a key we don't accept. */
export function canonicalPublicKey(publicKeyPem: string): Buffer {
  let key: KeyObject
  try {
    // Only a public key: createPublicKey would also take a private key or a certificate.
    if (!/^\s*-----BEGIN PUBLIC KEY-----/.test(publicKeyPem)) throw new TypeError()
    key = createPublicKey(publicKeyPem)
  } catch {
    throw new TypeError('not a public key in PEM (SPKI)')
  }
  const accepted = key.asymmetricKeyType === 'ed25519' || key.asymmetricKeyDetails?.namedCurve === 'prime256v1'
  if (!accepted) throw new TypeError('not an EC P-256 or Ed25519 key')
  return key.export({ type: 'spki', format: 'der' })
}

async function privateKeyPemOf(key: CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await crypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')
}

function subject(commonName: string, migrationId: string): x509.JsonName {
  return [{ O: [migrationId] }, { CN: [commonName] }]
}

/** 127 random bits: positive in DER. */
function serialNumber(): string {
  const bytes = randomBytes(16)
  bytes[0]! &= 0x7f
  bytes[0]! |= 0x40
  return bytes.toString('hex')
}
