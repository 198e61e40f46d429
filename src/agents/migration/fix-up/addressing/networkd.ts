import { remark, type AddressWriter, type AddressedNic } from './address-writer.ts'

const enabledBy = [
  'multi-user.target.wants/systemd-networkd.service',
  'dbus-org.freedesktop.network1.service',
  'sockets.target.wants/systemd-networkd.socket',
]

export const networkd: AddressWriter = {
  name: 'systemd-networkd',
  async manages(files) {
    for (const name of enabledBy) if (await files.exists(`/etc/systemd/system/${name}`)) return true
    return false
  },
  async write(files, nic) {
    // The first file that matches is the only one that counts.
    const path = `/etc/systemd/network/00-portolan-${nic.name}.network`
    return (await files.write(path, networkFile(nic))) ? [path] : []
  },
}

function networkFile({ mac, addressing }: AddressedNic): string {
  const network =
    addressing.mode === 'DHCP'
      ? ['DHCP=yes']
      : [
          `Address=${addressing.address}`,
          ...(addressing.gateway ? [`Gateway=${addressing.gateway}`] : []),
          ...addressing.dnsServers.map((server) => `DNS=${server}`),
        ]
  // The type keeps VLANs out, which have the MAC of the interface below them.
  return [remark, '[Match]', `MACAddress=${mac}`, 'Type=ether', '', '[Network]', ...network, ''].join('\n')
}
