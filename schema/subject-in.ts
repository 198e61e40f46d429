import { decodedId } from './global-id.ts'

/** What the first id in a mutation's input names. */
export function subjectIn(input: object): { type: string; id: string } | undefined {
  for (const [name, value] of Object.entries(input)) {
    const decoded = name.endsWith('Id') && typeof value === 'string' && value.length <= 500 ? decodedId(value) : undefined
    if (decoded) return { type: decoded.typename, id: decoded.id }
  }
  return undefined
}
