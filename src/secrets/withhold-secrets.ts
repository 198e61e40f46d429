/** Ends of names whose values are never written down. A plugin's options are withheld whole, since only the plugin knows which of them are secret. */
const secretName = /(options|secret|password|passphrase|private_?key|token|credentials?|headers?)$/i
const addressName = /url$/i
const withheld = '[withheld]'

/** The same value without its secrets: what is under a secret name is replaced, and of an address only its origin is kept. */
export function withholdSecrets(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withholdSecrets)
  if (typeof value !== 'object' || value === null || value instanceof Date) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => {
      if (member === null || member === undefined) return [name, member]
      if (secretName.test(name)) return [name, withheld]
      if (addressName.test(name) && typeof member === 'string') return [name, URL.parse(member)?.origin ?? withheld]
      return [name, withholdSecrets(member)]
    }),
  )
}

/** Whether `withholdSecrets` replaces what stands under this name. */
export function isSecretName(name: string): boolean {
  return secretName.test(name)
}
