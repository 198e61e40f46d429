/**
 * Prepares the copied guest for its new place, on the overlay: the copied disk itself stays as it was verified. A guest that keeps its root elsewhere, or in a form
 * unknown here, is left as it is, and the answer says so.
 */
import type { ControlRequests } from '../../../transfer/control-protocol.ts'
import { TransferError } from '../../../transfer/transfer-error.ts'
import type { FixUpRequest, FixUpStep, Guest } from './fix-up-step.ts'
import { withGuest } from './mounted-guest.ts'
import { fixUpSteps } from './steps.ts'

type Report = ControlRequests['fixUp'][1]['steps'][number]

const longestDetail = 2_000

/** `diskName` is the kernel's, such as `vda`. Running it again changes nothing. Throws TransferError FIX_UP_FAILED; nothing stays mounted. */
export async function fixUpDisk(diskName: string, request: FixUpRequest, steps: readonly FixUpStep[] = fixUpSteps): Promise<Report[]> {
  try {
    return await withGuest(diskName, async (guest, found) => {
      if (!guest) return [withoutRoot(found, request)]
      const reports: Report[] = [{ step: 'find-root', changed: false, detail: found }]
      // One after the other: a later step may build on what an earlier one wrote.
      for (const step of steps) reports.push(await applied(step, guest, request))
      return reports
    })
  } catch (error) {
    if (error instanceof TransferError) throw error
    throw new TransferError(
      'FIX_UP_FAILED',
      `The copied guest on ${diskName} could not be prepared: ${String(error)}. What was verified is unchanged; discard the overlay and try again.`,
      { retryable: true, cause: error },
    )
  }
}

/** It boots as it is, unless the operator asked for what can't be done. */
function withoutRoot(found: string, { nics }: FixUpRequest): Report {
  if (!nics.some(({ addressing }) => addressing))
    return { step: 'find-root', changed: false, detail: 'nothing was changed', couldNot: found }
  throw new TransferError('FIX_UP_FAILED', `${found} It was not booted, since it was to get other addresses.`, { retryable: false })
}

async function applied(step: FixUpStep, guest: Guest, request: FixUpRequest): Promise<Report> {
  try {
    const { changed, couldNot = [], otherwise } = await step.apply(guest, request)
    return {
      step: step.name,
      changed: changed.length > 0,
      detail: (changed.join(', ') || otherwise).slice(0, longestDetail),
      ...(couldNot.length > 0 && { couldNot: couldNot.join(' ').slice(0, longestDetail) }),
    }
  } catch (error) {
    if (error instanceof TransferError) throw error
    const reason = error instanceof Error ? error.message : String(error)
    return { step: step.name, changed: false, detail: 'not done', couldNot: `${reason}.`.slice(0, longestDetail) }
  }
}
