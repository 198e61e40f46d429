import { done, type Phase } from '../phase.ts'
import { resultOf } from './phase-facts.ts'

/** What the copied system needs to come up in its new place: interface names, fstab. Written to the overlay by the landing image's agent. */
export const fixUpGuest: Phase = {
  name: 'FIX_UP_GUEST',
  control: 'CANCELLABLE',
  timeoutMs: 5 * 60_000,
  async do(context) {
    const { signal, settings } = context
    const agents = await context.agents()
    const destination = await agents.agent('DESTINATION', { signal, timeoutMs: settings.timings.agentMs })
    const { interfaces } = resultOf(context, 'FREEZE')
    const { excluded = [] } = resultOf(context, 'SEND_REMAINDER')
    const { steps } = await destination.request(
      'fixUp',
      { nics: interfaces, empty: excluded },
      { signal, timeoutMs: settings.timings.requestMs * 2 },
    )
    const changed = steps.filter((step) => step.changed)
    await context.note(
      changed.length === 0 ? 'The guest needed no fix-up.' : changed.map(({ step, detail }) => `${step}: ${detail}`).join(' '),
    )
    return done
  },
  // It wrote to the overlay, which goes with the destination's VM.
  undo: null,
}
