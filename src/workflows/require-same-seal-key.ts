import { ne } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { clouds } from '../database/tables/cloud.ts'
import type { SealKey } from '../secrets/seal.ts'
import { sealContext } from './cloud-connections.ts'

/** Asked at start, where it can be said to whoever holds the right key. @throws SealError WRONG_KEY when a cloud's options were sealed with another key. */
export async function requireSameSealKey(database: Database, sealKey: SealKey): Promise<void> {
  const [sealed] = await database.select().from(clouds).where(ne(clouds.sealedOptions, '')).limit(1)
  if (sealed) sealKey.unseal(sealed.sealedOptions, sealContext(sealed.id))
}
