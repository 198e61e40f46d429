import type { InterfaceAddressing } from '../src/domain/migration-request.ts'
import { plainFamily, subnetOf } from '../src/domain/subnet-of.ts'
import { builder } from './builder.ts'
import { invalidInput } from './invalid-input.ts'

const StaticAddressInput = builder.inputType('StaticAddressInput', {
  description: 'An address that the guest is configured with.',
  fields: (t) => ({
    address: t.field({
      type: 'CIDR',
      required: true,
      description: 'Its address with the prefix length of its subnet, such as `192.0.2.7/24`.',
    }),
    gateway: t.field({ type: 'IPAddress', description: 'The default gateway, in that subnet; none when left away.' }),
    dnsServers: t.field({ type: ['IPAddress'], defaultValue: [], required: true, description: 'Name servers, at most 4.' }),
  }),
})

export const InterfaceAddressingInput = builder.inputType('InterfaceAddressingInput', {
  description:
    'Which addresses an interface gets in its new place. Give exactly one of `dhcp: true` and `static`. Written into the copied guest before it boots: for ifupdown, systemd-networkd, netplan, NetworkManager and ifcfg files.',
  fields: (t) => ({
    mac: t.string({ required: true, description: "The interface's MAC address (`NetworkInterface.mac`), which the copy keeps." }),
    dhcp: t.boolean({ defaultValue: false, required: true, description: 'Whether it asks a DHCP server.' }),
    static: t.field({ type: StaticAddressInput, description: 'The address that it has.' }),
  }),
})

const mostDnsServers = 4

/**
 * @param of where the input stands that has them
 * @throws PortolanError INVALID_INPUT with the path of the first part that breaks a rule
 */
export function toInterfaceAddressing(
  inputs: (typeof InterfaceAddressingInput.$inferInput)[],
  of: readonly string[] = ['input'],
): InterfaceAddressing[] {
  if (inputs.length > 64) throw invalidInput(`must have at most 64 entries, and has ${inputs.length}`, [...of, 'addressing'])
  const seen = new Set<string>()
  return inputs.map((input, index) => {
    const path = [...of, 'addressing', `${index}`]
    const mac = input.mac.toLowerCase()
    if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac)) throw invalidInput('must be a MAC address such as 52:54:00:12:34:56', [...path, 'mac'])
    if (seen.has(mac)) throw invalidInput(`names ${mac} a second time`, [...path, 'mac'])
    seen.add(mac)
    const fixed = input.static
    if (input.dhcp === Boolean(fixed)) throw invalidInput('must have exactly one of `dhcp: true` and `static`', path)
    return fixed ? { mac, mode: 'STATIC', ...toStatic(fixed, [...path, 'static']) } : { mac, mode: 'DHCP' }
  })
}

function toStatic({ address, gateway, dnsServers }: typeof StaticAddressInput.$inferInput, path: string[]) {
  const subnet = subnetOf(address)
  if (!subnet) throw invalidInput("must be an interface's address with its prefix length, such as 192.0.2.7/24", [...path, 'address'])
  if (gateway && !subnet.contains(gateway)) throw invalidInput(`must be in the subnet of ${address}`, [...path, 'gateway'])
  if (gateway && gateway === subnet.address) throw invalidInput("must be another address than the interface's own", [...path, 'gateway'])
  if (dnsServers.length > mostDnsServers) throw invalidInput(`must have at most ${mostDnsServers} entries`, [...path, 'dnsServers'])
  dnsServers.forEach((server, index) => {
    if (plainFamily(server) === 0) throw invalidInput('must be an IP address without a zone', [...path, 'dnsServers', `${index}`])
  })
  return { address: `${subnet.address}/${subnet.prefixLength}`, gateway: gateway ?? null, dnsServers }
}
