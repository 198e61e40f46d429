/** A libvirtd that is killed while it makes or removes an isolated network: it knows nothing of the bridge afterwards, and of the rules it added for it. */
import { access, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { ensureIsolatedNetwork, removeIsolatedNetwork } from '../../../plugins/libvirt/isolated-network.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'
import { openSite, type Site } from '../../../plugins/libvirt/site.ts'
import { partsOfIsolatedNetworks } from '../../chaos/inventory.ts'
import { networkInterfaces } from '../../support/bridge-ports.ts'
import { startMortalLibvirt, type MortalLibvirt } from './mortal-libvirt.ts'

const vmId = '0d1e2f30-1111-4222-8333-444455556666'
let directory: string
let libvirt: MortalLibvirt
let site: Site
let stateFile: string

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-networks-'))
  stateFile = join(directory, 'site', 'run', 'network', `portolan-isolated-${vmId}.xml`)
  libvirt = await startMortalLibvirt(join(directory, 'site'))
  site = openSite(libvirtOptions.parse({ uri: libvirt.uri }), () => undefined)
})
afterAll(async () => {
  await libvirt?.stop()
  await rm(directory, { recursive: true, force: true })
})

test('killed while it makes one: the next call makes it, beside nothing of the first', async () => {
  const before = await networkInterfaces()
  await killedOnce(() => madeSince(before), ensureIsolatedNetwork(site, vmId, ['52:54:00:11:22:33']))
  expect(await newSince(before), 'as libvirt leaves it').toHaveLength(1)
  await ensureIsolatedNetwork(site, vmId, ['52:54:00:11:22:33'])
  expect(await newSince(before)).toHaveLength(1)
  await removeIsolatedNetwork(site, vmId)
  expect(await newSince(before)).toEqual([])
  await nothingIsLeft()
})

test('killed while it removes one: the next call removes what is left', async () => {
  const before = await networkInterfaces()
  await ensureIsolatedNetwork(site, vmId, ['52:54:00:11:22:33'])
  await killedOnce(forgotten, removeIsolatedNetwork(site, vmId))
  expect(await newSince(before), 'as libvirt leaves it').toHaveLength(1)
  expect(await partsOfIsolatedNetworks()).not.toEqual([])
  await removeIsolatedNetwork(site, vmId)
  expect(await newSince(before)).toEqual([])
  await nothingIsLeft()
})

test('killed when all of one is there but the note of it: its DHCP server goes too', async () => {
  const before = await networkInterfaces()
  await ensureIsolatedNetwork(site, vmId, ['52:54:00:11:22:33'])
  await rm(stateFile)
  await libvirt.killDaemon()
  expect(await partsOfIsolatedNetworks(), 'as libvirt leaves it').toContainEqual(expect.stringMatching(/^DHCP server/))
  await removeIsolatedNetwork(site, vmId)
  expect(await newSince(before)).toEqual([])
  await nothingIsLeft()
})

/** Kills libvirtd as soon as it has come that far in a call; it puts dozens of firewall rules in or out then. */
async function killedOnce(soFar: () => Promise<boolean>, call: Promise<void>): Promise<void> {
  const ended = expect(call).rejects.toMatchObject({ code: 'UNREACHABLE', retryable: true })
  while (!(await soFar())) await pause(1)
  await libvirt.killDaemon()
  await ended
  expect(await libvirt.virsh('net-list', '--name')).not.toContain(vmId)
}

const madeSince = async (before: readonly string[]) => (await newSince(before)).length > 0

/** Its state, which libvirt reads when it starts, is gone. */
const forgotten = () =>
  access(stateFile).then(
    () => false,
    () => true,
  )

async function newSince(before: readonly string[]): Promise<string[]> {
  return (await networkInterfaces()).filter((name) => !before.includes(name))
}

/** A DHCP server that was told to end takes a moment. */
async function nothingIsLeft(): Promise<void> {
  await vi.waitFor(async () => expect(await partsOfIsolatedNetworks()).toEqual([]))
}
