import { PortolanError } from '../../domain/errors.ts'
import type { ControlRequests } from '../../transfer/control-protocol.ts'
import { targetSerial } from '../agent-link.ts'
import { done, type Phase, type PhaseContext, type PhaseResults } from '../phase.ts'
import { whileMachineRuns } from '../while-machine-runs.ts'
import { resultOf } from './phase-facts.ts'

/** What the copied system needs to come up in its new place: interface names, fstab. Written to the overlay by the landing image's agent. */
export const fixUpGuest: Phase = {
  name: 'FIX_UP_GUEST',
  control: 'CANCELLABLE',
  timeoutMs: 5 * 60_000,
  async do(context) {
    const steps = await whileMachineRuns(context, 'DESTINATION', (signal) => fixUp(context, signal))
    const changed = steps.filter((step) => step.changed)
    await context.note(
      changed.length === 0 ? 'The guest needed no fix-up.' : changed.map(({ step, detail }) => `${step}: ${detail}`).join(' '),
    )
    for (const { step, couldNot } of steps) if (couldNot !== undefined) await context.note(`${step} could not do all: ${couldNot}`)
    return done
  },
  // It wrote to the overlay, which goes with the destination's VM.
  undo: null,
}

async function fixUp(context: PhaseContext, signal: AbortSignal): Promise<ControlRequests['fixUp'][1]['steps']> {
  const { agentMs, requestMs } = context.settings.timings
  const agents = await context.agents()
  const destination = await agents.agent('DESTINATION', { signal, timeoutMs: agentMs })
  // One that was killed since it had received the copy knows of no disk.
  await destination.request('receive.start', { disk: targetSerial, empty: false }, { signal, timeoutMs: requestMs })
  const { interfaces } = resultOf(context, 'FREEZE')
  const { excluded = [] } = resultOf(context, 'SEND_REMAINDER')
  const { steps } = await destination.request(
    'fixUp',
    { nics: addressed(context, interfaces), sourceDisk: resultOf(context, 'CONNECT_AGENTS').disk, empty: excluded },
    // A guest's own tools take their time where they have to make an initramfs anew.
    { signal, timeoutMs: requestMs * 4 },
  )
  return steps
}

/** The guest's interfaces, with the addresses that the operator wants for them. */
function addressed({ migration }: PhaseContext, interfaces: PhaseResults['FREEZE']['interfaces']): ControlRequests['fixUp'][0]['nics'] {
  const wanted = migration.request.addressing ?? []
  const missing = wanted.find(({ mac }) => !interfaces.some((nic) => nic.mac === mac))
  if (missing)
    throw new PortolanError(
      'UNSUPPORTED',
      `The guest shows no interface ${missing.mac}, which was to get other addresses; the copy was not booted.`,
      {
        retryable: false,
        remedy: 'Retry the migration with corrected addresses: `changes.addressing` of `retryMigration`.',
      },
    )
  return interfaces.map(({ mac, name }) => {
    const found = wanted.find((entry) => entry.mac === mac)
    if (!found) return { mac, name }
    const { mac: _mac, ...addressing } = found
    return { mac, name, addressing }
  })
}
