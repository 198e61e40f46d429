import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { createClient } from '@libsql/client'

/**
 * One control plane a data directory: the embedded engine's journal has one owner. A write transaction that is never ended holds a lock of the operating system's, which goes
 * with the process however it dies.
 * @returns what releases it. @throws Error with one sentence when another process holds it.
 */
export async function lockDataDirectory(dataDirectory: string): Promise<() => void> {
  await mkdir(dataDirectory, { recursive: true, mode: 0o700 })
  const client = createClient({ url: pathToFileURL(join(resolve(dataDirectory), 'lock.db')).href })
  try {
    const transaction = await client.transaction('write')
    return () => {
      transaction.close()
      client.close()
    }
  } catch (error) {
    client.close()
    throw new Error(
      `Another control plane runs on the data directory ${dataDirectory}; this one was not started, and nothing was changed. Stop the other one, or give this one a directory of its own (dataDirectory).`,
      { cause: error },
    )
  }
}
