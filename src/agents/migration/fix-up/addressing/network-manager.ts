import { createHash } from 'node:crypto'
import { isIpv6, remark, type AddressWriter, type AddressedNic } from './address-writer.ts'

/** A profile of its own, which goes before the guest's others for that interface. */
export const networkManager: AddressWriter = {
  name: 'NetworkManager',
  manages: (files) => files.exists('/etc/systemd/system/multi-user.target.wants/NetworkManager.service'),
  async write(files, nic) {
    const path = `/etc/NetworkManager/system-connections/portolan-${nic.name}.nmconnection`
    // One that others can read is ignored.
    return (await files.write(path, keyfile(nic), 0o600)) ? [path] : []
  },
}

function keyfile({ mac, name, addressing }: AddressedNic): string {
  const fixed = addressing.mode === 'STATIC' ? addressing : null
  const family = (six: boolean) => {
    if (!fixed) return ['method=auto']
    if (isIpv6(fixed.address) !== six) return [six ? 'method=ignore' : 'method=disabled']
    return ['method=manual', `address1=${[fixed.address, ...(fixed.gateway ? [fixed.gateway] : [])].join(',')}`]
  }
  const dns = (six: boolean) => {
    const servers = fixed?.dnsServers.filter((server) => isIpv6(server) === six) ?? []
    return servers.length > 0 ? [`dns=${servers.map((server) => `${server};`).join('')}`] : []
  }
  return [
    remark,
    '[connection]',
    `id=portolan-${name}`,
    `uuid=${uuidOf(mac)}`,
    'type=ethernet',
    'autoconnect=true',
    'autoconnect-priority=999',
    '',
    '[ethernet]',
    `mac-address=${mac.toUpperCase()}`,
    '',
    '[ipv4]',
    ...family(false),
    ...dns(false),
    '',
    '[ipv6]',
    ...family(true),
    ...dns(true),
    '',
  ].join('\n')
}

/** The same each time, in the form of version 8: a content of our own. */
function uuidOf(mac: string): string {
  const hex = createHash('sha256').update(`portolan ${mac}`).digest('hex')
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `a${hex.slice(17, 20)}`, hex.slice(20, 32)].join('-')
}
