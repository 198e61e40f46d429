import { ProviderError } from '../../plugin-sdk/index.ts'
import type { PhaseContext } from '../phase.ts'
import { decide } from './site-records.ts'

/** Before anything at the destination is given up. Throws where it was committed, which the way back has excluded before. */
export async function recordAbandoned(context: PhaseContext): Promise<void> {
  const { id } = context.migration
  try {
    if ((await decide(context, 'ABANDONED')) === 'ABANDONED') return
  } catch (error) {
    if (!(error instanceof ProviderError && error.code === 'INSUFFICIENT_CAPACITY') || context.results.SEAL_COPY) throw error
    // No commit was ever on its way, so an attempt without an outcome says the same; and a full site must not hold the source back.
    return context.note(
      `The destination has no room for the record that migration ${id} was abandoned; without an outcome it counts as that.`,
    )
  }
  throw new Error(`Its destination holds that migration ${id} was committed, which it was not; see who wrote that there.`)
}
