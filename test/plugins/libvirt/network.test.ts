import { expect, test } from 'vitest'
import { network } from '../../../plugins/libvirt/network.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'
import { openSite } from '../../../plugins/libvirt/site.ts'

const on = (uri: string) => network(openSite(libvirtOptions.parse({ uri }), () => undefined))

test("a libvirt on another machine says that nobody can check an isolated machine of its from here, and this machine's does not", () => {
  expect(on('qemu+ssh://root@host/system').isolationFault).toMatch(/^is on a network of libvirt's host alone$/)
  expect(on('qemu:///system')).not.toHaveProperty('isolationFault')
})
