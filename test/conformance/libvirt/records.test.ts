/** The records of a site that machines were moved to for years. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import plugin from '../../../plugins/libvirt/index.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'
import type { ProviderConnection, SiteRecord } from '../../../src/plugin-sdk/index.ts'
import { startMortalLibvirt, type MortalLibvirt } from './mortal-libvirt.ts'

let directory: string
let libvirt: MortalLibvirt
let cloud: ProviderConnection

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-records-'))
  libvirt = await startMortalLibvirt(join(directory, 'site'))
  cloud = await plugin.connect(libvirtOptions.parse({ uri: libvirt.uri }), { signal: new AbortController().signal, log: () => undefined })
})
afterAll(async () => {
  await libvirt?.stop()
  await rm(directory, { recursive: true, force: true })
})

test('a thousand records are listed, each as it was put, however hostile its text', async () => {
  const old = Array.from({ length: 1_000 }, (_, index) => record(`migration.${index}.1.started`, { attempt: index }))
  for (let first = 0; first < old.length; first += 250) await define(old.slice(first, first + 250))
  const hostile = record('migration.hostile.1.started', {
    name: '</description></secret>\n<secret>; secret-undefine --secret "x" \' & <!-- ]]>',
  })
  await cloud.records.put({ operationId: randomUUID(), record: hostile })
  const found = await cloud.records.list({ keyPrefix: 'migration.' })
  expect(found).toHaveLength(1_001)
  expect(new Map(found.map((one) => [one.key, one.content]))).toEqual(new Map([...old, hostile].map((one) => [one.key, one.content])))
  expect(found.map(({ key }) => key)).toEqual(found.map(({ key }) => key).toSorted((one, other) => one.localeCompare(other)))
})

test('virsh ends well after a command in the middle that failed: what it gives has to be counted', async () => {
  const [known] = (await libvirt.virsh('secret-list')).trim().split(/\s+/)
  const answer = await libvirt.virsh(`secret-dumpxml --secret ${randomUUID()}; secret-dumpxml --secret ${known}`)
  expect(answer.match(/<uuid>/g)).toHaveLength(1)
})

function record(key: string, content: SiteRecord['content']): SiteRecord {
  return { key, writtenAt: '2026-11-23T12:00:00.000Z', content }
}

/** As the plugin does, with one virsh for all: by its own way a thousand take minutes. */
async function define(records: SiteRecord[]): Promise<void> {
  const paths = records.map(({ key }) => join(directory, key))
  const secret = (one: SiteRecord) =>
    `<secret ephemeral='no' private='no'><description>${JSON.stringify(one)}</description><usage type='volume'><volume>/portolan/record/${one.key}</volume></usage></secret>`
  await Promise.all(records.map((one, index) => writeFile(paths[index]!, secret(one))))
  await libvirt.virsh(paths.map((path) => `secret-define --file ${path}`).join('; '))
}
