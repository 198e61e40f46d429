/** The qemu plugin against real QEMU, with the tiny Debian guest. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import * as vitest from 'vitest'
import { artifacts } from '../../setup/artifacts.ts'
import { describeProvider } from '../../src/plugin-sdk/conformance/index.ts'

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

/** Processes that have to do with the directory. */
async function commandLinesWith(directory: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  return lines.filter((line) => line.includes(directory))
}
