/** The qemu plugin against real QEMU, with the tiny Debian guest. */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import * as vitest from 'vitest'
import { artifacts } from '../../setup/artifacts.ts'
import { describeProvider } from '../../src/plugin-sdk/conformance/index.ts'
import { openCloud } from '../plugins/qemu/support/cloud.ts'
import { bootTinyGuest } from '../plugins/qemu/support/tiny-guest.ts'
import { buildForkGuest, forkGuestMemoryBytes, warmUpForkGuest, withGuest } from '../support/fork-guest.ts'
import { controlGroupsOfChildren } from '../support/control-groups.ts'

await describeProvider(
  'qemu',
  async () => {
    const stateDirectory = await mkdtemp(join(tmpdir(), 'portolan-conformance-qemu-'))
    const guestDirectory = join(stateDirectory, 'guest')
    await mkdir(guestDirectory)
    const { tinyImage, landing } = artifacts()
    return {
      plugin: resolve(import.meta.dirname, '../../plugins/qemu'),
      options: { stateDirectory },
      imagePath: tinyImage,
      landing,
      guestHttp: { port: 8080, path: '/health', bootTimeoutMs: 120_000 },
      parent: {
        image: await buildForkGuest(guestDirectory),
        memoryBytes: forkGuestMemoryBytes,
        warmUp: warmUpForkGuest,
        exercise: (channel) =>
          withGuest(channel, async ({ run }) => {
            const write =
              'head -c 2000000 /dev/urandom >/tmp/mine && dd if=/tmp/mine of=/dev/vda bs=64k conv=fsync 2>/dev/null && head -c 17 /dev/vda | wc -c'
            vitest.expect(await run(write)).toEqual({ said: ['17'], status: '0' })
          }),
        savedFiles: (parentId) => ({
          ram: join(stateDirectory, 'parents', parentId, 'ram'),
          disk: join(stateDirectory, 'parents', parentId, 'disk.raw'),
        }),
      },
      leftovers: async () => [
        ...(await readdir(join(stateDirectory, 'machines'))),
        ...(await readdir(join(stateDirectory, 'parents'))),
        ...(await processesOf(stateDirectory)),
        ...(await controlGroupsOfChildren(stateDirectory)),
      ],
      cleanUp: () => rm(stateDirectory, { recursive: true, force: true }),
    }
  },
  vitest,
)

vitest.test('a guest is cut off and let out without its help, and powers off when asked', async () => {
  const { expect } = vitest
  const cloud = await openCloud()
  const server = createServer((socket) => socket.end('hello from the host'))
  try {
    const { vmId, health, run } = await bootTinyGuest(cloud)
    await once(server.listen({ host: '127.0.0.1', port: 0 }), 'listening')
    const { port } = server.address() as { port: number }
    const dialHost = async () => (await run(`timeout 10 bash -c 'exec 3<>/dev/tcp/10.0.2.2/${port} && cat <&3' 2>&1`)).stdout
    const operation = () => ({ operationId: randomUUID(), vmId })
    expect(await dialHost()).toBe('hello from the host')

    await cloud.connection.network.isolate(operation())
    expect(await health()).toBe(200)
    expect(await dialHost()).not.toContain('hello')
    expect((await cloud.connection.virtualMachines.describe({ vmId })).endpoints).toEqual([])

    await cloud.connection.network.expose(operation())
    expect(await health()).toBe(200)
    expect(await dialHost()).toBe('hello from the host')

    await cloud.connection.virtualMachines.stop({ ...operation(), force: false })
    expect((await cloud.connection.virtualMachines.describe({ vmId })).power).toBe('STOPPED')
  } finally {
    server.close()
    await cloud.close()
  }
})

/** Processes that have to do with the directory, or run in it. */
async function processesOf(directory: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lines = pids.map(async (pid) => {
    const said = [await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''), await readlink(`/proc/${pid}/cwd`).catch(() => '')]
    return said.join(' in ')
  })
  return (await Promise.all(lines)).filter((line) => line.includes(directory))
}
