import { BlockList, isIP } from 'node:net'

/** An address with its prefix length, and its subnet. */
export interface AddressInSubnet {
  address: string
  prefixLength: number
  family: 4 | 6
  /** Whether another address is in the same subnet. */
  contains(other: string): boolean
}

/** Null for what is not an address of a single machine with its prefix length, such as `192.0.2.7/24`. */
export function subnetOf(cidr: string): AddressInSubnet | null {
  const [address = '', length = '', ...more] = cidr.split('/')
  const family = plainFamily(address)
  const prefixLength = Number(length)
  const bits = family === 4 ? 32 : 128
  if (family === 0 || more.length > 0 || !/^\d{1,3}$/.test(length) || prefixLength < 1 || prefixLength > bits) return null
  if (nobodys.check(address, name(family))) return null
  const subnet = new BlockList()
  subnet.addSubnet(address, prefixLength, name(family))
  return { address, prefixLength, family, contains: (other) => plainFamily(other) === family && subnet.check(other, name(family)) }
}

/** 0 for what is no address, or one with a zone, which is free text. */
export function plainFamily(address: string): 0 | 4 | 6 {
  const family = address.includes('%') ? 0 : isIP(address)
  return family === 4 || family === 6 ? family : 0
}

/** No interface can have one of these for its own. */
const nobodys = new BlockList()
for (const [net, prefix] of [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['224.0.0.0', 3],
] as const)
  nobodys.addSubnet(net, prefix, 'ipv4')
for (const [net, prefix] of [
  ['::', 127],
  ['ff00::', 8],
] as const)
  nobodys.addSubnet(net, prefix, 'ipv6')

function name(family: 4 | 6): 'ipv4' | 'ipv6' {
  return family === 4 ? 'ipv4' : 'ipv6'
}
