/** IPv4 and IPv6 arithmetic that libvirt's network XML needs. */

export function ipv4ToNumber(address: string): number {
  return address.split('.').reduce((value, part) => value * 256 + Number(part), 0)
}

export function numberToIpv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.')
}

/** The subnet in CIDR notation, from libvirt's `<ip address netmask|prefix>`; an IPv6 address is masked too. */
export function subnetOf(address: string, given: { prefix?: string | undefined; netmask?: string | undefined }): string {
  if (address.includes(':')) {
    const prefix = Number(given.prefix ?? 64)
    return `${maskIpv6(address, prefix)}/${prefix}`
  }
  const prefix = given.prefix !== undefined ? Number(given.prefix) : prefixOfMask(given.netmask)
  const size = 2 ** (32 - prefix)
  return `${numberToIpv4(Math.floor(ipv4ToNumber(address) / size) * size)}/${prefix}`
}

function prefixOfMask(netmask: string | undefined): number {
  return netmask === undefined ? 24 : ipv4ToNumber(netmask).toString(2).replace(/0+$/, '').length
}

function maskIpv6(address: string, prefix: number): string {
  const shorten = (long: string) => new URL(`http://[${long}]/`).hostname.slice(1, -1)
  // The URL parser accepts and shortens every valid form (also one that ends like an IPv4 address), and expands none, so that is done by hand.
  const [head = '', tail] = shorten(address).split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = tail === undefined ? left : [...left, ...Array<string>(8 - left.length - right.length).fill('0'), ...right]
  const masked = groups.map((group, index) => {
    const kept = Math.min(16, Math.max(0, prefix - index * 16))
    return (Number.parseInt(group, 16) & (0xffff << (16 - kept)) & 0xffff).toString(16)
  })
  return shorten(masked.join(':'))
}
