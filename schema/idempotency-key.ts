import type { InputFieldBuilder } from '@pothos/core'
import type { ResolvedTypes } from './builder.ts'
import { invalidInput } from './invalid-input.ts'

/** The field that every mutation's input has. */
export function idempotencyKey(t: InputFieldBuilder<ResolvedTypes, 'InputObject'>) {
  return t.string({
    required: true,
    description:
      'Chosen by the client, 1 to 200 characters, such as a UUID. The same key with the same input answers as the first time and does nothing more, for seven days; with another input, or later, it is refused.',
  })
}

/** @throws PortolanError INVALID_INPUT for an empty or overlong key, and for one that the database would not give back as it is. */
export function checkedKey(input: { idempotencyKey: string }): string {
  const key = input.idempotencyKey
  const path = ['input', 'idempotencyKey']
  if (key.length < 1 || key.length > 200) throw invalidInput(`must have 1 to 200 characters, and has ${key.length}`, path)
  if (!key.isWellFormed() || key.includes('\0')) throw invalidInput('must be well-formed Unicode without NUL characters', path)
  return key
}
