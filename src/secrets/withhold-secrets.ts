/** Ends of names whose values are never written down. A plugin's options are withheld whole, since only the plugin knows which of them are secret. */
const secretName = /(options|secret|password|passphrase|private_?key|token|credentials?|headers?)$/i
/** A job's program and data are their owner's own, and as long as they like; the job has them. */
const jobData = /^(tasks|input|program|source|shared)$/i
const addressName = /url$/i
const deepest = 64
/** Stands for what is not written down. */
export const withheld = '[withheld]'

/** The same value without its secrets: what is under a secret name is replaced, and of an address only its origin is kept. */
export function withholdSecrets(value: unknown, depth = 0): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Date) return value
  // What a client sends may nest as deep as its body is long, and would end the stack here and wherever it is written down.
  if (depth === deepest) return withheld
  if (Array.isArray(value)) return value.map((member) => withholdSecrets(member, depth + 1))
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => {
      if (member === null || member === undefined) return [name, member]
      if (isSecretName(name)) return [name, withheld]
      if (addressName.test(name) && typeof member === 'string') return [name, URL.parse(member)?.origin ?? withheld]
      return [name, withholdSecrets(member, depth + 1)]
    }),
  )
}

/** Whether `withholdSecrets` replaces what stands under this name. */
export function isSecretName(name: string): boolean {
  return secretName.test(name) || jobData.test(name)
}
