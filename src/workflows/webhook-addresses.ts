/**
 * Which addresses a webhook may reach. Its URL comes from an operator, and is fetched from where the control plane stands: by default neither this machine itself (whose
 * engine trusts everybody on loopback) nor what clouds tell a machine about itself, credentials included, can be reached so.
 */
import { lookup as resolveName } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'

/** `range` is an address or CIDR. Throws Error for anything else. */
function add(list: BlockList, range: string): void {
  const [address = '', prefix] = range.split('/')
  const family = isIP(address)
  const bits = family === 4 ? 32 : 128
  const length = prefix === undefined ? bits : Number(prefix)
  if (family === 0 || !Number.isInteger(length) || length < 0 || length > bits)
    throw new Error(`${JSON.stringify(range)} is not an IP address or CIDR range; correct webhooks.allow in the configuration.`)
  list.addSubnet(address, length, family === 4 ? 'ipv4' : 'ipv6')
}

function listOf(ranges: readonly string[]): BlockList {
  const list = new BlockList()
  for (const range of ranges) add(list, range)
  return list
}

const refused = listOf([
  // This machine, and what is no single machine.
  '127.0.0.0/8',
  '::1',
  '0.0.0.0/8',
  '::',
  '224.0.0.0/4',
  '255.255.255.255',
  'ff00::/8',
  // Link-local, where most clouds answer about the machine; then those that answer elsewhere.
  '169.254.0.0/16',
  'fe80::/10',
  'fd00:ec2::254',
  'fd20:ce::254',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
  // The same through a translator of IPv4 into IPv6.
  '64:ff9b::7f00:0/104',
  '64:ff9b::a9fe:0/112',
  '64:ff9b::6464:64c8',
  '64:ff9b::a83f:8110',
])

export interface WebhookAddresses {
  /** For node:http: resolves, and refuses what may not be reached; what was checked is what is connected to. */
  lookup: LookupFunction
  /** Throws Error for a URL whose host is such an address itself. */
  requireAllowed(url: URL): void
}

/** `allow`: CIDR ranges that are reached nevertheless. Throws Error for one that is none. */
export function webhookAddresses(allow: readonly string[]): WebhookAddresses {
  const allowed = listOf(allow)
  function refusal(address: string): Error | null {
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    if (!refused.check(address, family) || allowed.check(address, family)) return null
    return new Error(
      `Webhooks may not reach ${address}, so nothing was sent there; allow it in the configuration (webhooks.allow) when it is meant.`,
    )
  }
  return {
    lookup(hostname, options, callback) {
      resolveName(hostname, { ...options, all: true }, (error, addresses) => {
        const refusedFirst = error ?? addresses.map(({ address }) => refusal(address)).find((found) => found !== null)
        if (refusedFirst) return callback(refusedFirst, '', 4)
        const first = addresses[0]
        if (options.all || !first) return callback(null, addresses)
        return callback(null, first.address, first.family)
      })
    },
    requireAllowed(url) {
      const host = url.hostname.replace(/^\[|\]$/g, '')
      const found = isIP(host) === 0 ? null : refusal(host)
      if (found) throw found
    },
  }
}
