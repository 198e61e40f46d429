/** The libvirt plugin against a libvirtd of its own, with the tiny Debian guest. Runs in a private network namespace: `npm test` makes it. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import * as vitest from 'vitest'
import { artifacts } from '../../setup/artifacts.ts'
import { startPrivateLibvirt } from '../../src/cli/private-site/start-private-libvirt.ts'
import { describeProvider } from '../../src/plugin-sdk/conformance/index.ts'

await describeProvider(
  'libvirt',
  async () => {
    const directory = await mkdtemp(join(tmpdir(), 'portolan-libvirt-'))
    const site = await startPrivateLibvirt({ directory })
    const { tinyImage, landing } = artifacts()
    return {
      plugin: resolve(import.meta.dirname, '../../plugins/libvirt'),
      options: { uri: site.uri, consoleDirectory: site.consoleDirectory },
      imagePath: tinyImage,
      landing,
      guestHttp: { port: 8080, path: '/health', bootTimeoutMs: 180_000 },
      leftovers: async () => [
        ...(await virsh(site.uri, 'list', '--all', '--name')),
        ...(await virsh(site.uri, 'vol-list', 'default')),
        ...(await virsh(site.uri, 'net-list', '--all', '--name')),
      ],
      async cleanUp() {
        await site.stop()
        await rm(directory, { recursive: true, force: true })
      },
    }
  },
  vitest,
)

async function virsh(uri: string, ...args: string[]): Promise<string[]> {
  const { stdout } = await promisify(execFile)('virsh', ['--quiet', '--connect', uri, ...args], { timeout: 20_000 })
  return stdout
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
}
