import { builder } from './builder.ts'

/** An enum whose values each say what they mean; the record's type makes sure that none is forgotten. */
export function describedEnum<Value extends string>(name: string, description: string, values: Record<Value, string>) {
  const config = Object.fromEntries(Object.entries<string>(values).map(([value, text]) => [value, { description: text }]))
  return builder.enumType(name, { description, values: config as Record<Value, { description: string }> })
}
