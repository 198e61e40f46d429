import { z } from 'zod'
import type { SiteRecord } from './contract.ts'
import { ProviderError } from './errors.ts'

const siteRecord = z.object({
  key: z.string().min(1),
  writtenAt: z.string().refine((text) => !Number.isNaN(Date.parse(text))),
  content: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
}) satisfies z.ZodType<SiteRecord>

/**
 * A record as a site keeps it: JSON. `place` names it in errors.
 * @throws ProviderError INTERNAL where it is none: what is unreadable must not pass for absent.
 */
export function parseSiteRecord(text: string, place: string): SiteRecord {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    // Not JSON is as wrong as JSON of another form.
  }
  const parsed = siteRecord.safeParse(value)
  if (parsed.success) return parsed.data
  throw new ProviderError('INTERNAL', `The record ${place} can't be read: it is not what Portolan wrote there. It was left as it is.`, {
    retryable: false,
    remedy: 'Look at it, restore it from a backup of the site, or remove it if you know that no migration is decided by it.',
  })
}
