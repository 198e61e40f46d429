/** A minimal guest that children can be forked from, of what the set-up has unpacked of Debian, and how a test speaks with it. */
import { cp, mkdir, open, readdir, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { artifacts } from '../../setup/artifacts.ts'
import { extractFromTree } from '../../setup/extract-from-tree.ts'
import { runCommand } from '../../setup/run-command.ts'
import type { GuestChannel, ParentImage } from '../../src/plugin-sdk/index.ts'

/** In the order in which they need each other. */
const modules = [
  'virtio',
  'virtio_ring',
  'virtio_pci_legacy_dev',
  'virtio_pci_modern_dev',
  'virtio_pci',
  'virtio_blk',
  'virtio_console',
  'failover',
  'net_failover',
  'virtio_net',
]
const diskBytes = 64 * 1024 * 1024
/** Off the grid where QEMU's dirty log can lose pages. */
export const forkGuestMemoryBytes = 131_064 * 1024

/** Builds it in `directory`: about a second. */
export async function buildForkGuest(directory: string): Promise<ParentImage> {
  const { cacheDirectory, landing } = artifacts()
  const [tree, root] = [join(directory, 'tree'), join(directory, 'root')]
  await extractFromTree(join(cacheDirectory, 'guest-tree'), ['usr/bin/busybox', 'usr/lib/modules/*'], tree)
  for (const name of ['bin', 'modules', 'proc', 'sys', 'dev', 'tmp']) await mkdir(join(root, name), { recursive: true })
  const busybox = join(tree, 'usr/bin/busybox')
  await cp(busybox, join(root, 'bin/busybox'))
  await cp(join(import.meta.dirname, 'fork-guest/init'), join(root, 'init'), { mode: 0 })
  const available = await readdir(join(tree, 'usr/lib/modules'), { recursive: true, withFileTypes: true })
  for (const [index, module] of modules.entries()) {
    const file = available.find(({ name }) => name === `${module}.ko`)
    if (!file) throw new Error(`Debian's kernel has no module ${module}`)
    await cp(join(file.parentPath, file.name), join(root, 'modules', `${String(index).padStart(2, '0')}-${module}.ko`))
  }
  const initrdPath = join(directory, 'initrd')
  const pack = 'chmod 755 "$1/init" && cd "$1" && find . | "$2" cpio -o -H newc -R 0:0 >"$3"'
  await runCommand('sh', ['-c', pack, 'sh', root, busybox, initrdPath], {})
  const diskPath = join(directory, 'disk.raw')
  const disk = await open(diskPath, 'w')
  await disk.truncate(diskBytes)
  await disk.write("the parent's disk", 0)
  await disk.close()
  for (const path of [tree, root]) await rm(path, { recursive: true })
  return { kernelPath: landing.kernelPath, initrdPath, commandLine: landing.commandLine, diskPath }
}

export interface GuestLine {
  nextLine(): Promise<string>
  /** Runs a shell command in the guest: what it said, and its exit status. */
  run(command: string): Promise<{ said: string[]; status: string }>
  hangUp(): void
}

/** Fails whatever waits when the connection ends. */
function speakWithGuest({ path }: GuestChannel): GuestLine {
  const socket = connect(path)
  const lines: string[] = []
  let failure: Error | undefined
  let wake = () => {}
  const fail = (error: Error) => {
    failure ??= error
    wake()
  }
  socket.on('error', fail)
  socket.on('close', () => fail(new Error('the guest hung up')))
  createInterface({ input: socket })
    .on('line', (line) => {
      lines.push(line)
      wake()
    })
    .on('error', () => undefined)
  const nextLine = async (): Promise<string> => {
    for (;;) {
      const line = lines.shift()
      if (line !== undefined) return line
      if (failure) throw failure
      await new Promise<void>((resolve) => (wake = resolve))
    }
  }
  return {
    nextLine,
    async run(command) {
      socket.write(`${command}\n`)
      const said: string[] = []
      for (;;) {
        const line = await nextLine()
        if (line.startsWith('END ')) return { said, status: line.slice(4) }
        said.push(line)
      }
    },
    hangUp: () => socket.destroy(),
  }
}

/** Speaks with the guest, and hangs up. */
export async function withGuest<Answer>(channel: GuestChannel, work: (guest: GuestLine) => Promise<Answer>): Promise<Answer> {
  const guest = speakWithGuest(channel)
  try {
    return await work(guest)
  } finally {
    guest.hangUp()
  }
}

/** Ends once the guest that boots has said that it is up. */
export async function warmUpForkGuest(channel: GuestChannel): Promise<void> {
  await withGuest(channel, async (guest) => {
    while ((await guest.nextLine()) !== 'HELLO');
  })
}
