import { TransferError } from '../../../transfer/transfer-error.ts'
import type { AddressedNic, AddressWriter } from './addressing/address-writer.ts'
import { ifcfg } from './addressing/ifcfg.ts'
import { ifupdown } from './addressing/ifupdown.ts'
import { netplan } from './addressing/netplan.ts'
import { networkManager } from './addressing/network-manager.ts'
import { networkd } from './addressing/networkd.ts'
import type { FixUpStep, Guest } from './fix-up-step.ts'

/** A guest may have several; the first that has a say over an interface is the one that configures it. netplan writes the files of two others at each boot. */
const writers: readonly AddressWriter[] = [netplan, ifupdown, ifcfg, networkManager, networkd]

/**
 * Writes the addresses that the operator asked for. An interface that nothing was asked for keeps what the guest is configured with. A guest that can't be told is not booted:
 * it would come up with addresses that belong to its old place.
 */
export const addresses: FixUpStep = {
  name: 'addresses',
  async apply(guest, { nics }) {
    const changed: string[] = []
    const wanted = nics.flatMap(({ mac, name, addressing }) => (addressing ? [{ mac, name, addressing }] : []))
    for (const nic of wanted) changed.push(...(await writeAddress(guest, nic)))
    if (wanted.length > 0 && (await keepCloudInitOut(guest))) changed.push(`${cloudInit} (the network is no longer cloud-init's)`)
    return { changed, otherwise: wanted.length === 0 ? 'the guest keeps its addresses' : 'the addresses are as asked for already' }
  },
}

async function writeAddress({ files }: Guest, nic: AddressedNic): Promise<string[]> {
  const what = nic.addressing.mode === 'DHCP' ? 'DHCP' : nic.addressing.address
  for (const writer of writers) {
    if (!(await writer.manages(files, nic))) continue
    try {
      const paths = await writer.write(files, nic)
      return paths.map((path) => `${path} gives ${nic.name} ${what} (${writer.name})`)
    } catch (error) {
      throw cannot(nic, error instanceof Error ? error.message : String(error))
    }
  }
  throw cannot(nic, `none of ${writers.map(({ name }) => name).join(', ')} configures it`)
}

function cannot({ name, mac }: AddressedNic, why: string): TransferError {
  return new TransferError(
    'FIX_UP_FAILED',
    `The addresses of ${name} (${mac}) could not be written into the copied guest: ${why}. It was not booted; migrate without new addresses for it, or configure it otherwise.`,
    { retryable: false },
  )
}

const cloudInit = '/etc/cloud/cloud.cfg.d/99-portolan-network.cfg'

/** It would write the network anew from what its old cloud said. */
async function keepCloudInitOut({ files }: Guest): Promise<boolean> {
  return (
    (await files.exists('/etc/cloud/cloud.cfg.d')) &&
    files.write(cloudInit, '# Written when this machine was moved.\nnetwork: {config: disabled}\n')
  )
}
