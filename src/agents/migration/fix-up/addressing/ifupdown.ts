import type { GuestFiles } from '../guest-files.ts'
import { isIpv6, remark, type AddressWriter, type AddressedNic } from './address-writer.ts'

const main = '/etc/network/interfaces'

/** Debian's own, and busybox's. Its files know interfaces by name, which a step before this one binds to the MAC. */
export const ifupdown: AddressWriter = {
  name: 'ifupdown',
  async manages(files, { name }) {
    for (const path of await paths(files)) if (withoutStanzas((await files.read(path)) ?? '', name).removed) return true
    return false
  },
  async write(files, nic) {
    const changed: string[] = []
    const all = await Promise.all((await paths(files)).map(async (path) => ({ path, text: (await files.read(path)) ?? '' })))
    const isAuto = all.some(({ text }) => new RegExp(`^\\s*(auto|allow-hotplug)\\s(.*\\s)?${escaped(nic.name)}(\\s|$)`, 'm').test(text))
    for (const { path, text } of all.filter((file) => file.path !== main)) {
      const { rest, removed } = withoutStanzas(text, nic.name)
      if (removed && (await files.write(path, rest))) changed.push(path)
    }
    const { rest } = withoutStanzas((await files.read(main)) ?? '', nic.name)
    const lines = [rest.trimEnd(), ...(isAuto ? [] : [`auto ${nic.name}`]), ...stanza(nic), '']
    if (await files.write(main, lines.join('\n').trimStart())) changed.push(main)
    if (nic.addressing.mode === 'STATIC' && (await writeNameServers(files, nic.addressing.dnsServers))) changed.push('/etc/resolv.conf')
    return changed
  },
}

async function paths(files: GuestFiles): Promise<string[]> {
  return [main, ...(await files.list('/etc/network/interfaces.d')).map((name) => `/etc/network/interfaces.d/${name}`)]
}

/** All that is said of addresses of the interface; `auto` lines stay. */
function withoutStanzas(text: string, name: string): { rest: string; removed: boolean } {
  let inside = false
  let removed = false
  const kept = text.split('\n').filter((line) => {
    const [keyword = '', subject] = line.trim().split(/\s+/)
    if (/^(iface|mapping|auto|allow-\S+|source|source-directory|rename|template|no-auto-down|no-scripts)$/.test(keyword))
      inside = keyword === 'iface' && subject === name
    removed ||= inside
    return !inside
  })
  return { rest: kept.join('\n'), removed }
}

function stanza({ name, addressing }: AddressedNic): string[] {
  if (addressing.mode === 'DHCP') return [`iface ${name} inet dhcp`, `    ${remark}`]
  const { address, gateway, dnsServers } = addressing
  const [ip, prefix] = address.split('/')
  const six = isIpv6(address)
  return [
    `iface ${name} ${six ? 'inet6' : 'inet'} static`,
    `    ${remark}`,
    `    address ${ip}`,
    `    netmask ${six ? prefix : netmask(Number(prefix))}`,
    ...(gateway ? [`    gateway ${gateway}`] : []),
    ...(dnsServers.length > 0 ? [`    dns-nameservers ${dnsServers.join(' ')}`] : []),
  ]
}

/** Busybox knows no prefix lengths here. */
function netmask(prefix: number): string {
  return [0, 8, 16, 24].map((bits) => 256 - 2 ** (8 - Math.min(8, Math.max(0, prefix - bits)))).join('.')
}

/** `dns-nameservers` is for resolvconf; without it the file is the guest's own. */
async function writeNameServers(files: GuestFiles, servers: string[]): Promise<boolean> {
  const path = '/etc/resolv.conf'
  const isLink = !(await files.resolve(path)).endsWith(path)
  if (servers.length === 0 || isLink || (await files.exists('/sbin/resolvconf'))) return false
  const kept = ((await files.read(path)) ?? '').split('\n').filter((line) => line !== '' && !/^\s*nameserver\s/.test(line))
  return files.write(path, [...kept, ...servers.map((server) => `nameserver ${server}`), ''].join('\n'))
}

function escaped(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\-]/g, String.raw`\$&`)
}
