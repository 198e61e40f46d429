import { stat } from 'node:fs/promises'
import { ProviderError } from '../../src/plugin-sdk/index.ts'

/** @throws ProviderError NOT_FOUND, with the member of the request that names it. */
export async function sizeOf(path: string, member: string[]): Promise<number> {
  try {
    return (await stat(path)).size
  } catch (error) {
    throw new ProviderError('NOT_FOUND', `The file ${path} can't be read: ${(error as Error).message}.`, {
      retryable: false,
      remedy: 'Run the set-up that builds it, or give the path of a file that is there. Nothing was changed.',
      path: member,
      cause: error,
    })
  }
}
