const secretName = /key|secret|token|password|passphrase|credential/i
const shortestSecret = 8

/**
 * A function that replaces, anywhere in what is logged, the secrets among a cloud's options: every text under a name such as `privateKey`, `token`
 * or `password`, and each of its lines. A plugin that prints its own options does not leak them so.
 */
export function redactorFor(options: unknown): <Value>(value: Value) => Value {
  const secrets = [...secretsIn(options, false)].toSorted((a, b) => b.length - a.length)
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
  if (typeof value === 'string')
    return new Set(
      underSecretName ? [value, ...value.split('\n')].map((text) => text.trim()).filter((text) => text.length >= shortestSecret) : [],
    )
  if (typeof value !== 'object' || value === null) return new Set()
  return new Set(Object.entries(value).flatMap(([name, member]) => [...secretsIn(member, underSecretName || secretName.test(name))]))
}
