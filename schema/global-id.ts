import { decodeGlobalID } from '@pothos/plugin-relay'
import { PortolanError } from '../src/domain/errors.ts'

/**
 * The row id inside an id of the API. `path` says where in the arguments it stood.
 * @throws PortolanError INVALID_INPUT for an id of another type, or for what is no id.
 */
export function rowIdOf(typename: string, globalId: string, path: readonly string[]): string {
  const decoded = decodedId(globalId)
  if (decoded?.typename === typename) return decoded.id
  const found = decoded ? `names a ${decoded.typename}` : 'is no id of this API'
  throw new PortolanError(
    'INVALID_INPUT',
    `${path.join('.')} must be the id of a ${typename}, and what was given ${found}. Nothing was changed.`,
    {
      retryable: false,
      remedy: `Read the id from a ${typename} object's \`id\` field.`,
      path,
    },
  )
}

/** What an id of the API names; undefined where it is none. */
export function decodedId(globalId: string): { typename: string; id: string } | undefined {
  try {
    return decodeGlobalID(globalId)
  } catch {
    return undefined // what it was not is all there is to say, and the caller says it
  }
}
