/** This machine has version 1. A guest's kernel has version 2 when it is mounted there, so what bounds children is run in one, as root, by a job. */
import { readFile } from 'node:fs/promises'
import { stripTypeScriptTypes } from 'node:module'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { shippedParents } from '../../setup/parent-images.ts'
import { openJobSite } from '../support/job-site.ts'

const mebibyte = 2 ** 20
const limits = { memoryBytes: 48 * mebibyte, cpuShare: 0.25 }

test('a control group of version 2 bounds memory and CPU, below a tree whose top passes on memory alone, as systemd makes it', async () => {
  const site = await openJobSite()
  try {
    await site.parent('node', { ...shippedParents.node, warmUp: '', memoryBytes: 192 * mebibyte, cpuCount: 1 })
    const job = await site.run({ program: await program(), tasks: [{ input: null }], children: 1 })
    expect(job.problem).toBeNull()
    const [seen] = job.outputs as [Record<string, never>]
    expect(seen).toMatchObject({ version: 'V2', greedyEndedBy: 'SIGKILL', left: [] })
    expect(seen.files).toEqual(['/run/groups/services/portolan-site/child/cgroup.procs'])
    expect(seen.oomKills).toBeGreaterThan(0)
    expect(seen.peakBytes).toBeLessThanOrEqual(limits.memoryBytes)
    expect(seen.cpuUsedShare).toBeGreaterThan(0.1)
    expect(seen.cpuUsedShare).toBeLessThan(0.4)
    expect(seen.freeMemoryBytes).toBeLessThanOrEqual(128 * mebibyte)
  } finally {
    await site.close()
  }
})

async function program(): Promise<string> {
  const module = async (name: string) =>
    stripTypeScriptTypes(await readFile(join(import.meta.dirname, '../../plugins/qemu/fork', `${name}.ts`), 'utf8')).replaceAll(
      ".ts'",
      ".mjs'",
    )
  return `
const { execFileSync, spawn, spawnSync } = require('child_process')
const { mkdirSync, readdirSync, readFileSync, writeFileSync } = require('fs')
const { setTimeout: sleep } = require('timers/promises')
module.exports = async () => {
  mkdirSync('/run/groups')
  execFileSync('/portolan/busybox', ['mount', '-t', 'cgroup2', 'groups', '/run/groups'])
  mkdirSync('/run/groups/services/own', { recursive: true })
  writeFileSync('/run/groups/services/own/cgroup.procs', String(process.pid))
  writeFileSync('/run/groups/cgroup.subtree_control', '+memory')
  writeFileSync('/run/groups/services/memory.max', '${128 * mebibyte}')
  writeFileSync('/run/one-at-a-time.mjs', ${JSON.stringify(await module('one-at-a-time'))})
  writeFileSync('/run/child-cgroup.mjs', ${JSON.stringify(await module('child-cgroup'))})
  const { openCgroups } = await import('/run/child-cgroup.mjs')
  const groups = await openCgroups('site', { mount: '/run/groups', self: '/proc/self/cgroup', removeDirectory: require('fs/promises').rmdir })
  const files = await groups.make('child', ${JSON.stringify(limits)})
  const group = files[0].replace('cgroup.procs', '')
  const number = (file, name) => Number(new RegExp('^' + name + ' (\\\\d+)$', 'm').exec(readFileSync(group + file, 'utf8'))[1])
  const inside = (command) => ['-c', 'echo 0 >' + files[0] + ' && ' + command]
  const greedy = spawnSync('sh', inside('exec tail /dev/zero'))
  const oomKills = number('memory.events', 'oom_kill')
  const peakBytes = Number(readFileSync(group + 'memory.peak', 'utf8'))
  const before = number('cpu.stat', 'usage_usec')
  const since = performance.now()
  const busy = spawn('sh', inside('while :; do :; done'))
  await sleep(3000)
  const cpuUsedShare = (number('cpu.stat', 'usage_usec') - before) / 1000 / (performance.now() - since)
  const freeMemoryBytes = await groups.freeMemoryBytes()
  busy.kill('SIGKILL')
  await groups.remove('child')
  await groups.remove('child')
  const left = readdirSync('/run/groups/services').filter((name) => name.startsWith('portolan'))
  return { version: groups.version, files, greedyEndedBy: greedy.signal, oomKills, peakBytes, cpuUsedShare, freeMemoryBytes, left }
}
`
}
