/** A plugin that puts its options, credentials included, wherever a careless one could: logs, output, errors of every kind. What goes wrong is said by the file `mode` beside its record. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import {
  agentToAgentCopy,
  contractVersion,
  definePlugin,
  guestAccessOptions,
  ProviderError,
  type ProviderConnection,
} from '../../../src/plugin-sdk/index.ts'

const options = z.object({
  directory: z.string(),
  apiKey: z.string(),
  account: z.object({ password: z.string(), oauth: z.array(z.object({ refresh_token: z.string() })) }),
  endpoint: z.string(),
  guestAccess: guestAccessOptions,
})
const gibibyte = 1024 ** 3

export function leakyPlugin(id: string, uniqueId: string) {
  return definePlugin({
    id,
    apiVersion: contractVersion,
    options,
    async connect(given, { log }) {
      const mode = async () => (await readFile(join(given.directory, 'mode'), 'utf8')).trim()
      const everything = () => `${JSON.stringify(given)} ${given.guestAccess[0]?.privateKey} ${encodeURIComponent(given.account.password)}`
      log('warn', `connecting with ${everything()}`, { given, list: [given.apiKey] })
      process.stdout.write(`${everything()}\n`)
      process.stderr.write(`${everything()}\n`)

      const misbehave = async (): Promise<void> => {
        const now = await mode()
        if (now === 'refuse')
          throw new ProviderError('UNAUTHORIZED', `401 for ${everything()}`, {
            retryable: false,
            remedy: everything(),
            path: ['options', given.apiKey],
          })
        if (now === 'bug') throw new TypeError(`can't read ${everything()}`)
        if (now === 'abort') process.abort()
        if (now === 'uncaught') {
          setImmediate(() => {
            throw new Error(`${given.apiKey} ${given.account.password} nobody caught me`)
          })
          await new Promise(() => {})
        }
      }
      await misbehave()

      const machine = {
        id: 'vm-1',
        uniqueId,
        name: 'victim',
        power: 'RUNNING' as const,
        hostId: 'host',
        architecture: 'x86_64' as const,
        firmware: 'BIOS' as const,
        cpuCount: 1,
        memoryBytes: gibibyte,
        disks: [{ id: 'disk', index: 0, sizeBytes: gibibyte, bus: 'virtio' as const }],
        nics: [{ id: 'nic', index: 0, mac: '52:54:00:00:00:01', networkId: 'net', addresses: [] }],
      }
      const fail = async (): Promise<never> => {
        await misbehave()
        throw new ProviderError('INSUFFICIENT_CAPACITY', `no room for ${everything()}`, { retryable: false, remedy: everything() })
      }
      const host = {
        id: 'host',
        name: 'host',
        architecture: 'x86_64' as const,
        cpuCount: 4,
        memoryBytes: 64 * gibibyte,
        freeDiskBytes: 99 * gibibyte,
      }
      const connection = {
        async discoverTopology() {
          await misbehave()
          return {
            regions: [{ id: 'region', name: 'region', zones: [{ id: 'zone', name: 'zone', hosts: [host] }] }],
            networks: [{ id: 'net', name: 'net', subnets: [], controlPlaneFromGuest: '127.0.0.1' }],
            virtualMachines: [machine],
          }
        },
        virtualMachines: { describe: async () => machine, start: fail, stop: fail, suspend: fail, resume: fail },
        destination: {
          instantiate: fail,
          sealCopiedDisks: fail,
          bootFromCopiedDisk: fail,
          discardOverlay: fail,
          flattenOverlay: fail,
          delete: async () => undefined,
        },
        network: {
          isolate: fail,
          expose: fail,
          reachability: async () => ({ fromControlPlane: null, controlPlaneFromGuest: '127.0.0.1' }),
        },
        migrationAgent: { install: fail, uninstall: async () => undefined },
        copyGuestData: agentToAgentCopy,
        records: { put: async () => undefined, list: async () => [] },
        async close() {},
      }
      return connection as unknown as ProviderConnection
    },
  })
}
