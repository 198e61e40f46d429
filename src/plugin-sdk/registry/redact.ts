const secretName = /key|secret|token|password|passphrase|credential/i
const shortestSecret = 4
const passwordInUrl = /^[a-z][a-z0-9+.-]*:\/\/[^/?#@]*:([^/?#@]+)@/i

export type Redact = <Value>(value: Value) => Value

/**
 * A function that replaces, anywhere in what a plugin logs or throws, the secrets among a cloud's options: every text under a name such as `privateKey`, `token`
 * or `password`, each of its lines, the password in an address, and all of them as they look inside JSON and addresses. A plugin that prints its own options does not leak them so.
 */
export function redactorFor(options: unknown): Redact {
  const secrets = [...new Set([...secretsIn(options, false)].flatMap(spellings))].toSorted((a, b) => b.length - a.length)
  const redactText = (text: string) => secrets.reduce((redacted, secret) => redacted.replaceAll(secret, '[secret]'), text)
  const redact = (value: unknown): unknown => {
    if (typeof value === 'string') return redactText(value)
    if (Array.isArray(value)) return value.map(redact)
    if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, redact(member)]))
  }
  return <Value>(value: Value) => redact(value) as Value
}

function secretsIn(value: unknown, underSecretName: boolean): Set<string> {
  const inUrl = typeof value === 'string' && passwordInUrl.exec(value)?.[1]
  if (inUrl && !underSecretName) return new Set([inUrl, decoded(inUrl)])
  if (typeof value === 'string')
    return new Set(
      underSecretName ? [value, ...value.split('\n')].map((text) => text.trim()).filter((text) => text.length >= shortestSecret) : [],
    )
  if (typeof value !== 'object' || value === null) return new Set()
  return new Set(Object.entries(value).flatMap(([name, member]) => [...secretsIn(member, underSecretName || secretName.test(name))]))
}

function spellings(secret: string): string[] {
  return [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret.toWellFormed())]
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
