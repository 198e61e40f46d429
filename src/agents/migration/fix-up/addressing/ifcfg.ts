import type { GuestFiles } from '../guest-files.ts'
import { isIpv6, remark, type AddressWriter, type AddressedNic } from './address-writer.ts'

const directory = '/etc/sysconfig/network-scripts'

/** Red Hat's files of before NetworkManager's own, which NetworkManager reads as well up to release 9. */
export const ifcfg: AddressWriter = {
  name: 'ifcfg files',
  manages: async (files, nic) => (await fileOf(files, nic)) !== null,
  async write(files, nic) {
    const path = (await fileOf(files, nic)) ?? `${directory}/ifcfg-${nic.name}`
    return (await files.write(path, ifcfgFile((await files.read(path)) ?? '', nic))) ? [path] : []
  },
}

/** The one with the interface's MAC; else the one with its name. */
async function fileOf(files: GuestFiles, { mac, name }: AddressedNic): Promise<string | null> {
  let byName: string | null = null
  for (const file of await files.list(directory)) {
    if (!/^ifcfg-[^~]*$/.test(file) || /\.(bak|orig|rpmsave|rpmnew)$/.test(file)) continue
    const content = (await files.read(`${directory}/${file}`)) ?? ''
    const value = (key: string) => new RegExp(`^\\s*${key}=["']?([^"'\\s]*)`, 'm').exec(content)?.[1]?.toLowerCase()
    if (value('HWADDR') === mac) return `${directory}/${file}`
    if ((value('DEVICE') ?? file.slice('ifcfg-'.length)) === name.toLowerCase()) byName = `${directory}/${file}`
  }
  return byName
}

const ours =
  /^\s*(#.*was moved\.$|(BOOTPROTO|HWADDR|ONBOOT|IPADDR\d*|PREFIX\d*|NETMASK\d*|GATEWAY\d*|DNS\d+|PEERDNS|IPV6INIT|IPV6_AUTOCONF|IPV6ADDR\w*|IPV6_DEFAULTGW|DHCPV6C)=)/

/** What is about addresses is replaced; the rest stays as it is. */
function ifcfgFile(before: string, { mac, name, addressing }: AddressedNic): string {
  const kept = before.split('\n').filter((line) => line !== '' && !ours.test(line))
  if (!kept.some((line) => /^\s*DEVICE=/.test(line))) kept.push(`DEVICE=${name}`)
  if (!kept.some((line) => /^\s*TYPE=/.test(line))) kept.push('TYPE=Ethernet')
  return [...kept, remark, `HWADDR=${mac.toUpperCase()}`, 'ONBOOT=yes', ...addresses(addressing), ''].join('\n')
}

function addresses(addressing: AddressedNic['addressing']): string[] {
  if (addressing.mode === 'DHCP') return ['BOOTPROTO=dhcp']
  const { address, gateway, dnsServers } = addressing
  const dns = dnsServers.map((server, index) => `DNS${index + 1}=${server}`)
  if (isIpv6(address))
    return [
      'BOOTPROTO=none',
      'IPV6INIT=yes',
      'IPV6_AUTOCONF=no',
      `IPV6ADDR=${address}`,
      ...(gateway ? [`IPV6_DEFAULTGW=${gateway}`] : []),
      ...dns,
    ]
  const [ip, prefix] = address.split('/')
  return ['BOOTPROTO=none', `IPADDR=${ip}`, `PREFIX=${prefix}`, ...(gateway ? [`GATEWAY=${gateway}`] : []), ...dns]
}
