/**
 * The campaign's two sites, with what can befall a site: its host loses power, it can't be reached, its file system is full, its daemon is killed. One pair serves many runs.
 *
 * The state directory of the qemu cloud lies on a small file system of its own, by way of a symbolic link: taken away, the cloud is out of reach and its machines run on.
 */
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDemoSite, type DemoCloud, type DemoSite } from '../../src/cli/demo-site.ts'
import { startMortalLibvirt, type MortalLibvirt } from '../conformance/libvirt/mortal-libvirt.ts'
import { signalProcess } from '../support/kill.ts'
import { cacheWithKillableAgent } from './destination-agent.ts'
import { libvirtdOf, machineProcesses } from './processes.ts'
import { mountSmallDisk } from './small-disk.ts'
import { warmQemuBinary, warmSources } from './warm-sources.ts'

export interface ChaosSite {
  directory: string
  demo: DemoSite
  /** All that runs at the site's host ends at once, and its API does not answer. */
  cutPower(cloud: DemoCloud): Promise<void>
  restorePower(cloud: DemoCloud): Promise<void>
  /** The site's API does not answer; its machines run on. */
  cutOff(cloud: DemoCloud): Promise<void>
  reconnect(cloud: DemoCloud): Promise<void>
  /** kill -9 of libvirtd, which its service manager starts again. */
  killLibvirtd(): Promise<void>
  /** Of the qemu cloud's file system. */
  fillDisk(): Promise<void>
  freeDisk(): Promise<void>
  close(): Promise<void>
}

/** Disk and landing image of one machine, and some room. */
const diskBytes = 1024 ** 3

export async function openChaosSite(): Promise<ChaosSite> {
  const directory = await mkdtemp(join(tmpdir(), 'chaos-'))
  const closing: (() => Promise<unknown>)[] = [() => rm(directory, { recursive: true, force: true })]
  const close = async () => {
    for (const step of closing.splice(0).toReversed()) await step()
  }
  try {
    const ownCache = process.env['PORTOLAN_CACHE']
    process.env['PORTOLAN_CACHE'] = await cacheWithKillableAgent(directory)
    closing.push(async () => {
      if (ownCache === undefined) delete process.env['PORTOLAN_CACHE']
      else process.env['PORTOLAN_CACHE'] = ownCache
    })
    const disk = join(directory, 'east-disk')
    const { fill, free, unmount } = await mountSmallDisk(disk, diskBytes)
    closing.push(unmount)
    await mkdir(join(disk, 'state'))
    const link = stateLink(directory)
    await link.put()
    const libvirt = await startMortalLibvirt(join(directory, 'libvirt'))
    closing.push(() => libvirt.stop())
    const opened = await openDemoSite(directory, libvirt.uri, { qemuBinary: await warmQemuBinary(directory) })
    closing.push(() => opened.close())
    const demo = { ...opened, bootSource: warmSources(directory, opened, (...words) => libvirt.virsh(...words)) }
    return {
      directory,
      demo,
      ...hostFaults(directory, libvirt, link),
      fillDisk: fill,
      freeDisk: free,
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

function stateLink(directory: string) {
  const path = join(directory, 'east')
  return {
    async put() {
      await rm(path, { force: true })
      await symlink(join(directory, 'east-disk', 'state'), path)
    },
    /** A file in its place: nobody makes an empty state directory there meanwhile. */
    async take() {
      await rm(path, { force: true })
      await writeFile(path, '')
    },
  }
}

function hostFaults(directory: string, libvirt: MortalLibvirt, link: ReturnType<typeof stateLink>) {
  const signalLibvirtd = async (signal: NodeJS.Signals) => {
    for (const { pid } of await libvirtdOf(directory)) signalProcess(pid, signal)
  }
  return {
    async cutPower({ pluginId }: DemoCloud) {
      if (pluginId === 'libvirt') return libvirt.cutPower()
      await link.take()
      for (const { pid } of await machineProcesses(join(directory, 'east'))) signalProcess(pid, 'SIGKILL')
    },
    restorePower: ({ pluginId }: DemoCloud) => (pluginId === 'libvirt' ? libvirt.restorePower() : link.put()),
    cutOff: ({ pluginId }: DemoCloud) => (pluginId === 'libvirt' ? signalLibvirtd('SIGSTOP') : link.take()),
    reconnect: ({ pluginId }: DemoCloud) => (pluginId === 'libvirt' ? signalLibvirtd('SIGCONT') : link.put()),
    killLibvirtd: () => libvirt.killDaemon(),
  }
}
