import { isIpv6, remark, type AddressWriter, type AddressedNic } from './address-writer.ts'

const directory = '/etc/netplan'

/**
 * netplan merges its files, and adds lists of addresses up: so what the others say of the interface is taken out of them, and a file of ours says it anew. It needs files in
 * block style, which is how installers, cloud-init and people write them; anything else is refused.
 */
export const netplan: AddressWriter = {
  name: 'netplan',
  manages: async (files) => (await files.list(directory)).some((name) => name.endsWith('.yaml')),
  async write(files, nic) {
    const own = `${directory}/99-portolan-${nic.name}.yaml`
    const others = (await files.list(directory))
      .map((name) => `${directory}/${name}`)
      .filter((path) => path.endsWith('.yaml') && path !== own)
    const edits = await Promise.all(
      others.map(async (path) => {
        const before = (await files.read(path)) ?? ''
        const after = withoutEthernet(before, nic)
        if (after === null) throw new Error(`${path} is not written in the plain block style, so ${nic.name} can't be taken out of it`)
        return { path, before, after }
      }),
    )
    const changed: string[] = []
    for (const { path, before, after } of edits) if (after !== before && (await files.write(path, after))) changed.push(path)
    if (await files.write(own, netplanFile(nic), 0o600)) changed.push(own)
    return changed
  },
}

function netplanFile({ mac, name, addressing }: AddressedNic): string {
  const lines =
    addressing.mode === 'DHCP'
      ? ['dhcp4: true', 'dhcp6: true']
      : [
          'dhcp4: false',
          'dhcp6: false',
          `addresses: ["${addressing.address}"]`,
          ...(addressing.gateway
            ? ['routes:', `  - {to: "${isIpv6(addressing.gateway) ? '::/0' : '0.0.0.0/0'}", via: "${addressing.gateway}"}`]
            : []),
          ...(addressing.dnsServers.length > 0
            ? ['nameservers:', `  addresses: [${addressing.dnsServers.map((server) => `"${server}"`).join(', ')}]`]
            : []),
        ]
  const body = [`match: {macaddress: "${mac}"}`, `set-name: "${name}"`, ...lines].map((line) => `      ${line}`)
  return [remark, 'network:', '  version: 2', '  ethernets:', `    "${name}":`, ...body, ''].join('\n')
}

/** The file without the interface's entry below `ethernets`, known by its name or MAC. Null when it mentions the interface in a way that this can't read. */
function withoutEthernet(text: string, { mac, name }: AddressedNic): string | null {
  const lines = text.split('\n')
  const start = lines.findIndex((line) => /^\s+ethernets:\s*(#.*)?$/.test(line))
  const mentions = (part: string) =>
    part.toLowerCase().includes(mac) || new RegExp(`^\\s*["']?${name.replaceAll('.', '\\.')}["']?\\s*:`, 'm').test(part)
  if (start < 0) return mentions(text) || /ethernets\s*:(?! *\{\} *$)/m.test(text.replaceAll(/#.*/g, '')) ? null : text
  const end = endOfBlock(lines, start)
  const entries: string[][] = []
  const entryIndent = indentOf(lines.slice(start + 1, end).find((line) => !isBlank(line)) ?? '')
  for (const line of lines.slice(start + 1, end)) {
    if (!isBlank(line) && indentOf(line) === entryIndent) entries.push([line])
    else (entries.at(-1) ?? entries[entries.push([]) - 1]!).push(line)
  }
  const kept = entries.filter((entry) => !mentions(entry.join('\n')))
  if (kept.length === entries.length) return text
  // A key without entries would be no mapping any more.
  const head = kept.length === 0 ? `${lines[start]!.replace(/\s*(#.*)?$/, '')} {}` : lines[start]!
  return [...lines.slice(0, start), head, ...kept.flat(), ...lines.slice(end)].join('\n')
}

function endOfBlock(lines: string[], start: number): number {
  const indent = indentOf(lines[start]!)
  const next = lines.findIndex((line, index) => index > start && !isBlank(line) && indentOf(line) <= indent)
  return next < 0 ? lines.length : next
}

function isBlank(line: string): boolean {
  return /^\s*(#.*)?$/.test(line)
}

function indentOf(line: string): number {
  return line.length - line.trimStart().length
}
