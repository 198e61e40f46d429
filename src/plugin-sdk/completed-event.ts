import type { Operation, ProviderConnection } from './contract.ts'
import { ProviderError } from './errors.ts'

/**
 * For `network.expose`: throws CONFLICT where the call names a completed event that the site's records don't hold, or that says something else than COMMITTED. Call it
 * before anything changes. Without a key nothing is asked.
 */
export async function requireCompletedEvent(
  records: Pick<ProviderConnection['records'], 'list'>,
  { vmId, completedEventKey, signal }: Operation & { vmId: string; completedEventKey?: string },
): Promise<void> {
  if (completedEventKey === undefined) return
  const found = await records.list({ keyPrefix: completedEventKey, ...(signal && { signal }) })
  const event = found.find(({ key }) => key === completedEventKey)
  if (event && (event.content['decision'] ?? 'COMMITTED') === 'COMMITTED') return
  const why = event ? `says ${JSON.stringify(event.content['decision'])}` : 'is not among the records of its site'
  throw new ProviderError(
    'CONFLICT',
    `The virtual machine ${vmId} was not exposed: its completed event, ${JSON.stringify(completedEventKey)}, ${why}. It is as isolated as it was.`,
    {
      retryable: false,
      remedy: "See the migration's verdict: only a committed copy may be reached.",
      path: ['completedEventKey'],
    },
  )
}
