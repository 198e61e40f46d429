import type { ProviderConnection } from './contract.ts'

export type NameRule = NonNullable<ProviderConnection['virtualMachines']['nameRule']>

/** What the provider says of the names that it takes, where it doesn't take this one; null where it does, or has no rule. */
export function nameFault(rule: NameRule | undefined, name: string): string | null {
  if (!rule || (Buffer.byteLength(name) <= rule.maxBytes && new RegExp(`^(?:${rule.pattern})$`, 'su').test(name))) return null
  return rule.says
}
