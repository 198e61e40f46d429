import { type ProviderConnection, ProviderError, requireCompletedEvent } from '../../src/plugin-sdk/index.ts'
import { userNetdevs } from './command-line.ts'
import { pickOtherPorts } from './launch.ts'
import { userNetwork } from './machine.ts'
import type { MachineChange } from './machine-store.ts'
import { QmpError, type QmpSession } from './qmp.ts'
import { control, findProcess } from './qemu-process.ts'
import type { Site } from './site.ts'

const portAttempts = 5

/** Isolated: this machine reaches the forwarded ports, and the guest's packets go nowhere. The file says so before it is true, and stops saying so after. */
export function network(site: Site, records: ProviderConnection['records']): ProviderConnection['network'] {
  return {
    isolate: (operation) =>
      site.store.change('isolated', operation, async (change) => {
        await change.save({ isolated: true })
        await replaceNetworks(site, change, true, operation.signal)
      }),

    expose: (operation) =>
      site.store.change('exposed', operation, async (change) => {
        if (change.machine.testOf) throw staysIsolated(change.machine.vmId)
        await requireCompletedEvent(records, operation)
        await replaceNetworks(site, change, false, operation.signal)
        await change.save({ isolated: false })
      }),

    async reachability({ vmId, guestPort }) {
      const machine = await site.store.read(vmId)
      const running = (await findProcess(site.store.directoryOf(vmId))) !== null
      const forward = machine.forwards.find((candidate) => candidate.guestPort === guestPort)
      return {
        fromControlPlane: running && forward ? { host: site.host.forwardAddress, port: forward.hostPort } : null,
        controlPlaneFromGuest: running && !machine.isolated && machine.nics.length > 0 ? userNetwork.hostAddress : null,
      }
    },
  }
}

/** Swaps the network behind each NIC's hub; the guest sees no link change and keeps its lease. Connections that were open break. */
async function replaceNetworks(site: Site, change: MachineChange, isolated: boolean, signal: AbortSignal | undefined): Promise<void> {
  const process = await findProcess(change.directory)
  // A VM that is off gets the right network when it starts.
  if (!process) return
  for (const position of change.machine.nics.keys())
    for (let attempt = 1; ; attempt++) {
      const { user, link } = userNetdevs(position, { ...change.machine, isolated }, site.host.forwardAddress)
      try {
        await control(process, signal, async (session) => {
          await removeNetdev(session, link.id)
          await removeNetdev(session, user.id)
          await session.execute('netdev_add', { type: 'user', ...user })
          await session.execute('netdev_add', { type: 'hubport', ...link })
        })
        break
      } catch (error) {
        if (!(error instanceof QmpError)) throw error
        if (!error.message.includes('host forwarding') || attempt === portAttempts) throw refused(change.machine.vmId, error)
        await pickOtherPorts(change, site.host.forwardAddress)
      }
    }
}

async function removeNetdev(session: QmpSession, id: string): Promise<void> {
  try {
    await session.execute('netdev_del', { id })
  } catch (error) {
    // An interrupted call had removed it.
    if (!(error instanceof QmpError) || error.qemuClass !== 'DeviceNotFound') throw error
  }
}

function staysIsolated(vmId: string): ProviderError {
  return new ProviderError('CONFLICT', `The virtual machine ${vmId} is a test of a copy, and stays isolated.`, {
    retryable: false,
    remedy: 'Remove the test; the copy itself goes live by its migration.',
    path: ['vmId'],
  })
}

function refused(vmId: string, cause: QmpError): ProviderError {
  return new ProviderError(
    'INTERNAL',
    `The network of ${vmId} could not be replaced: ${cause.message}. Its guest may be without a network.`,
    {
      retryable: true,
      remedy: 'Call again.',
      cause,
    },
  )
}
