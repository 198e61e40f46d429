import { ProviderError, testIdentity, type Operation } from '../../src/plugin-sdk/index.ts'
import { removeIsolatedNetwork } from './isolated-network.ts'
import { readMetadata } from './machine-metadata.ts'
import { destroyMachine } from './power.ts'
import type { Site } from './site.ts'
import { storagePools } from './storages.ts'
import { isNotFound } from './virsh-failure.ts'

/**
 * Removes a VM that the plugin made: domain, volumes, isolated network. Also what a killed call left of one: volumes are found by the unique id in
 * their names. What is not there is a success; a VM that somebody else made is refused with CONFLICT.
 */
export function deleteMachine(site: Site, operation: Operation & { vmId: string }): Promise<void> {
  const { vmId, signal } = operation
  return site.exclusively(vmId, signal, async () => {
    try {
      const { createdBy, test } = readMetadata(await site.domain(vmId, signal))
      if (createdBy === undefined) throw notOurs(vmId)
      if (test !== undefined) await deleteMachine(site, { ...operation, vmId: testIdentity(vmId, test).uniqueId })
      await destroyMachine(site, vmId, signal)
      await site.client.call(['undefine', '--domain', vmId, '--managed-save', '--snapshots-metadata', '--checkpoints-metadata'], {
        what: `remove the virtual machine ${vmId}`,
        signal,
      })
    } catch (error) {
      if (!isNotFound(error, 'domain')) throw error
    }
    await removeIsolatedNetwork(site, vmId, signal)
    for (const pool of storagePools(site).map((name) => site.pool(name)))
      for (const volume of await pool.ofMachine(vmId, signal)) await pool.delete(volume, signal)
  })
}

function notOurs(vmId: string): ProviderError {
  return new ProviderError('CONFLICT', `The virtual machine ${vmId} was not made by Portolan, so it was not deleted.`, {
    retryable: false,
    remedy: 'Delete it with virsh, if it is to go.',
  })
}
