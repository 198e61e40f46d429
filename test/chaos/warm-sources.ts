/**
 * Sources that continue from a saved state in place of booting: the first of each cloud boots once, and is saved with its memory when it serves. The providers know nothing of it: they
 * create the machine and its disk as ever, and what starts finds the saved memory beside it, once. From then on it is a machine like any other, which boots from its disk.
 *
 * All that continue from one state have its unique id and MAC: one run follows the other, and deletes both of its copies.
 */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { chmod, link, mkdir, symlink, writeFile } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { withQmp } from '../../plugins/qemu/qmp.ts'
import { randomMac, type DemoCloud, type DemoSite, type SourceMachine, type SourceStart } from '../../src/cli/demo-site.ts'
import { diskImage } from '../support/scenario-site.ts'
import { inGuest } from '../support/in-guest.ts'

interface Warm {
  identity: Pick<SourceStart, 'uniqueId' | 'mac'>
  /** The machine's name at its cloud. */
  name: string
  statePath: string
  diskPath: string
}

interface SavedMemory {
  /** Stops the machine and saves its memory; its disk stands still from then on. */
  save(vm: SourceMachine, statePath: string): Promise<void>
  /** Starts a machine from it. */
  start(vmId: string, warm: Warm): Promise<void>
}

const stateName = 'warm-state'
const run = promisify(execFile)

/** For the qemu cloud's option `qemuBinary`: takes in the memory that lies beside the disk, if there is any, and then QEMU boots as ever. */
export async function warmQemuBinary(directory: string): Promise<string> {
  const path = join(directory, 'qemu-system-warm')
  await writeFile(
    path,
    `#!/bin/sh\nif [ -e ${stateName} ]; then exec 9<${stateName}; rm ${stateName}; exec qemu-system-x86_64 "$@" -incoming fd:9; fi\nexec qemu-system-x86_64 "$@"\n`,
  )
  await chmod(path, 0o755)
  return path
}

/** @param directory the site's. */
export function warmSources(directory: string, demo: DemoSite, virsh: (...words: string[]) => Promise<string>): DemoSite['bootSource'] {
  const kept = new Map<string, Warm>()
  const kinds: Record<DemoCloud['pluginId'], SavedMemory> = {
    qemu: besideTheDisk(demo.east),
    libvirt: managedSave(directory, demo.west, virsh),
  }

  async function warm(cloud: DemoCloud, image: string): Promise<Warm> {
    const before = kept.get(cloud.name)
    if (before) return before
    const own = join(directory, 'warm', cloud.name)
    await mkdir(own, { recursive: true })
    const { virtualMachines } = cloud.connection
    const identity = { uniqueId: randomUUID(), mac: randomMac() }
    const start = (vmId: string) => virtualMachines.start({ operationId: randomUUID(), vmId })
    const vm = await demo.bootSource(cloud, image, { ...identity, start })
    const { name } = await virtualMachines.describe({ vmId: vm.vmId })
    const state: Warm = { identity, name, statePath: join(own, 'memory'), diskPath: join(own, 'disk') }
    await kinds[cloud.pluginId].save(vm, state.statePath)
    await run('cp', ['--sparse=always', '--', await diskImage(cloud, vm.vmId), state.diskPath])
    await virtualMachines.delete?.({ operationId: randomUUID(), vmId: vm.vmId })
    kept.set(cloud.name, state)
    return state
  }

  return async (cloud, image) => {
    const state = await warm(cloud, image)
    const vm = await demo.bootSource(cloud, state.diskPath, {
      ...state.identity,
      start: (vmId) => kinds[cloud.pluginId].start(vmId, state),
    })
    // What it knows of time and chance is of when it was saved.
    await inGuest(cloud, vm.vmId, `date -s "@${Math.floor(Date.now() / 1000)}" && echo ${randomUUID()} >/dev/urandom`)
    return vm
  }
}

function besideTheDisk(cloud: DemoCloud): SavedMemory {
  const machine = (vmId: string, ...names: string[]) => join(String(cloud.options['stateDirectory']), 'machines', vmId, ...names)
  const { virtualMachines } = cloud.connection
  return {
    async save({ vmId }, statePath) {
      await virtualMachines.suspend({ operationId: randomUUID(), vmId })
      // QEMU's sandbox keeps it from starting a program that would write the file.
      const server = createServer()
      const received = once(server, 'connection').then(([socket]) => pipeline(socket as Socket, createWriteStream(statePath)))
      await once(server.listen(machine(vmId, 'save.sock')), 'listening')
      try {
        await withQmp(machine(vmId, 'qmp.sock'), {}, async (session) => {
          await session.execute('migrate', { uri: 'unix:save.sock' })
          await received
          while ((await session.execute<{ status: string }>('query-migrate')).status !== 'completed') await delay(20)
        })
      } finally {
        server.close()
      }
    },
    async start(vmId, { statePath }) {
      await symlink(statePath, machine(vmId, stateName))
      await virtualMachines.start({ operationId: randomUUID(), vmId })
      // It was saved while it stood still, and does until its memory is there.
      while ((await virtualMachines.describe({ vmId })).power !== 'RUNNING') {
        await virtualMachines.resume({ operationId: randomUUID(), vmId })
        await delay(20)
      }
    },
  }
}

function managedSave(directory: string, cloud: DemoCloud, virsh: (...words: string[]) => Promise<string>): SavedMemory {
  return {
    save: async ({ vmId }, statePath) => void (await virsh('save', '--running', vmId, statePath)),
    async start(vmId, { name, statePath }) {
      // Where libvirt looks for what `managedsave` has saved; it removes the name once the machine runs.
      const saves = join(directory, 'libvirt', 'lib', 'qemu', 'save')
      await mkdir(saves, { recursive: true })
      await link(statePath, join(saves, `${name}.save`))
      await cloud.connection.virtualMachines.start({ operationId: randomUUID(), vmId })
    },
  }
}
