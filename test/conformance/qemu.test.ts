/** The qemu plugin against real QEMU, with the tiny Debian guest. */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import * as vitest from 'vitest'
import { artifacts } from '../../setup/artifacts.ts'
import { describeProvider } from '../../src/plugin-sdk/conformance/index.ts'
import { openCloud } from '../plugins/qemu/support/cloud.ts'
import { bootTinyGuest } from '../plugins/qemu/support/tiny-guest.ts'

await describeProvider(
  'qemu',
  async () => {
    const stateDirectory = await mkdtemp(join(tmpdir(), 'portolan-conformance-qemu-'))
    const { tinyImage, landing } = artifacts()
    return {
      plugin: resolve(import.meta.dirname, '../../plugins/qemu'),
      options: { stateDirectory },
      imagePath: tinyImage,
      landing,
      guestHttp: { port: 8080, path: '/health', bootTimeoutMs: 120_000 },
      leftovers: async () => [...(await readdir(join(stateDirectory, 'machines'))), ...(await commandLinesWith(stateDirectory))],
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

/** Processes that have to do with the directory. */
async function commandLinesWith(directory: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  return lines.filter((line) => line.includes(directory))
}
