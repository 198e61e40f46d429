/** What a reconciliation does at the clouds, one action at a time. Each may be repeated; each says in a sentence what it did. */
import { randomUUID } from 'node:crypto'
import { attemptFenceId, isFenceUpToAttempt } from '../domain/fence-id.ts'
import { recordKey, type RecordKind } from '../domain/migration-record.ts'
import type { SafeAction } from '../domain/verdict-actions.ts'
import { ProviderError, type ProviderConnection, type SiteRecord } from '../plugin-sdk/index.ts'
import type { LocatedMachine } from './verdict-machines.ts'
import type { MachineVerdict } from './verdict-reader.ts'

interface Copy {
  connection: ProviderConnection
  vmId: string
}

/** Throws what the provider throws; CONFLICT of ABANDON means that the attempt was committed meanwhile. */
export async function perform(action: SafeAction, verdict: MachineVerdict, signal: AbortSignal): Promise<string> {
  const { migrationId, attempt, uniqueId } = verdict
  const attemptId = attemptFenceId({ id: migrationId, attempt })
  const operation = { operationId: `reconcile.${attemptId}.${action}.${randomUUID()}`, signal }
  const source = () => copyOf(verdict.source)
  const destination = () => copyOf(verdict.destination)

  /** The one of the attempt, or of an earlier one, that is armed there, whichever switchover armed it. */
  const fenceIdAt = async (connection: ProviderConnection, vmId: string) => {
    const armed = (await connection.fencing?.confirm({ vmId, signal }))?.fenceId
    return armed && isFenceUpToAttempt(armed, { id: migrationId, attempt }) ? armed : attemptId
  }

  switch (action) {
    case 'ABANDON':
      await put('outcome', { decision: 'ABANDONED', uniqueId, vmId: verdict.destination.vm?.id ?? null })
      await giveBack(verdict, signal)
      return 'ABANDONED was recorded at the destination, so the attempt can not be committed any more.'
    case 'STOP_DESTINATION': {
      const { connection, vmId } = destination()
      await connection.virtualMachines.stop({ ...operation, vmId, force: true })
      return (await giveBack(verdict, signal))
        ? "The destination's machine was powered off, and is as it was left before."
        : "The destination's machine was powered off; what was copied is kept."
    }
    case 'RECORD_ROLLBACK':
      await put('rolled-back', { uniqueId, vmId: destination().vmId })
      return "The rollback that had fenced the destination's machine was recorded there."
    case 'RELEASE_FENCE': {
      const { connection, vmId } = source()
      await connection.fencing?.release({ ...operation, vmId, fenceId: await fenceIdAt(connection, vmId) })
      return "The source's fence was released."
    }
    case 'RESUME_SOURCE': {
      const { connection, vmId } = source()
      await connection.virtualMachines.resume({ ...operation, vmId })
      return verdict.standing.source.fence === 'NONE'
        ? 'The source, which was suspended without a fence, was resumed.'
        : 'The source was resumed.'
    }
    case 'START_SOURCE': {
      const { connection, vmId } = source()
      await connection.virtualMachines.start({ ...operation, vmId })
      return 'The source was started from its own disk.'
    }
    case 'FENCE_SOURCE': {
      const { connection, vmId } = source()
      await connection.fencing?.fence({ ...operation, vmId, fenceId: await fenceIdAt(connection, vmId) })
      return 'The source was fenced: it does not run, and nothing starts it.'
    }
    case 'START_DESTINATION': {
      const { connection, vmId } = destination()
      await connection.virtualMachines.start({ ...operation, vmId })
      return 'The destination was started from its own disk.'
    }
    case 'RESUME_DESTINATION': {
      const { connection, vmId } = destination()
      await connection.virtualMachines.resume({ ...operation, vmId }).catch(async (error: unknown) => {
        // A merge that was cut short holds it, and lets it go at its end.
        await connection.destination.flattenOverlay({ ...operation, vmId })
        if ((await connection.virtualMachines.describe({ vmId, signal })).power !== 'RUNNING') throw error
      })
      return 'The destination was resumed.'
    }
    case 'EXPOSE_DESTINATION': {
      const { connection, vmId } = destination()
      const completedEventKey = recordKey({ migrationId, attempt, kind: 'outcome' })
      await connection.network.expose({ ...operation, vmId, completedEventKey })
      return 'The destination was put on its networks.'
    }
    case 'COMPLETE_RECORDS': {
      const { connection, vmId } = destination()
      // It is live without that, so that a merge that fails keeps nobody waiting.
      const merged = await connection.destination.flattenOverlay({ ...operation, vmId }).then(
        () => '',
        (error: unknown) => ` Its overlay could not be merged: ${error instanceof Error ? error.message : String(error)}`,
      )
      signal.throwIfAborted()
      const { power } = await connection.virtualMachines.describe({ vmId, signal })
      if (power !== 'RUNNING') return `The destination is ${power} by now, so its completion was not recorded.${merged}`
      await put('completed', { uniqueId, vmId })
      return `The completion was recorded at the destination.${merged}`
    }
    case 'RETIRE_SOURCE': {
      const { connection, vmId } = source()
      await connection.virtualMachines.stop({ ...operation, vmId, force: true })
      return 'The source was powered off, and is kept under its fence.'
    }
    default:
      throw new Error(`${action} is nothing that is done by itself.`)
  }

  async function put(kind: RecordKind, content: SiteRecord['content']): Promise<void> {
    const { connection } = verdict.destination
    if (!connection) throw nowhere('The destination')
    const record = {
      key: recordKey({ migrationId, attempt, kind }),
      writtenAt: new Date().toISOString(),
      content: { migrationId, attempt, ...content },
    }
    await connection.records.put({ ...operation, record })
  }
}

/** A machine that was left keeps nothing of an attempt to carry writes back to it. True where it may have. */
export async function giveBack(verdict: MachineVerdict, signal: AbortSignal): Promise<boolean> {
  const { carriesBack, destination, migrationId, attempt } = verdict
  const adopt = carriesBack ? destination.connection?.destination.adopt : undefined
  if (!adopt || !destination.vm) return false
  const operationId = `reconcile.${attemptFenceId({ id: migrationId, attempt })}.give-back.${randomUUID()}`
  await adopt.giveBack({ operationId, vmId: destination.vm.id, signal })
  return true
}

/** What an interrupted attempt left in the source's guest. The guest may not be reachable, and runs as well with it. */
export async function removeAgent({ source, migrationId, attempt }: MachineVerdict, signal: AbortSignal): Promise<string> {
  try {
    const { connection, vmId } = copyOf(source)
    await connection.migrationAgent.uninstall({
      operationId: `reconcile.${migrationId}.${attempt}.uninstall.${randomUUID()}`,
      vmId,
      signal,
    })
    return "What the attempt had put into the source's guest was removed."
  } catch (error) {
    return `What the attempt had put into the memory of the source's guest could not be removed, and goes with its next boot: ${error instanceof Error ? error.message : String(error)}`
  }
}

function copyOf({ connection, vm }: LocatedMachine): Copy {
  if (connection && vm) return { connection, vmId: vm.id }
  throw nowhere('The machine')
}

function nowhere(what: string): ProviderError {
  return new ProviderError('UNREACHABLE', `${what} is not in reach any more.`, { retryable: true, remedy: 'Wait for its site to return.' })
}
