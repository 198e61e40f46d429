/** A plugin for tests of the registry: it misbehaves in the way that the VM's id names. Its state, such as it is, is a file. */
import { spawn } from 'node:child_process'
import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import {
  contractVersion,
  definePlugin,
  type ProviderConnection,
  ProviderError,
  type VirtualMachineDescription,
} from '../../../src/plugin-sdk/index.ts'

interface Query {
  vmId: string
  signal: AbortSignal
}

export default definePlugin({
  id: 'example',
  apiVersion: contractVersion,
  options: z.strictObject({ directory: z.string(), apiToken: z.string().default(''), failToConnect: z.boolean().default(false) }),
  async connect(options, { known, log }) {
    if (options.failToConnect)
      throw new ProviderError('UNAUTHORIZED', 'The example cloud refused the token.', {
        retryable: false,
        remedy: 'Get another.',
        path: ['options', 'apiToken'],
      })
    await appendFile(join(options.directory, 'connects'), `${process.pid} ${known ? 'known' : 'new'}\n`)
    log('info', 'connected', { apiToken: options.apiToken, nested: { list: [`token=${options.apiToken}`] } })

    const misbehaviours: Record<string, (query: Query) => unknown> = {
      crash: () => process.exit(3),
      'leave-a-process': () => ({ id: String(spawn('sleep', ['600'], { stdio: 'inherit' }).pid) }),
      'unhandled-rejection': () => {
        void Promise.reject(new Error('nobody caught me'))
        return delay(60_000)
      },
      'uncaught-exception': () => {
        setImmediate(() => {
          throw new TypeError('thrown in a callback')
        })
        return delay(60_000)
      },
      hang: () => delay(60_000),
      spin: () => {
        for (;;);
      },
      'stop-when-told': ({ signal }) => delay(60_000, undefined, { signal }),
      'stop-slowly': async ({ signal }) => {
        await delay(60_000, undefined, { signal }).catch(() => {})
        await delay(100)
        await appendFile(join(options.directory, 'stopped'), 'yes')
        throw signal.reason
      },
      'finish-anyway': async ({ signal }) => {
        await delay(60_000, undefined, { signal }).catch(() => {})
        return { id: 'finished' }
      },
      'not-found': ({ vmId }) => {
        throw new ProviderError('NOT_FOUND', `No ${vmId}.`, { retryable: false, remedy: 'Look.', path: ['vmId'], vmOwner: 'source' })
      },
      bug: () => {
        throw new TypeError('x is not a function')
      },
      unclonable: () => ({ id: () => {} }),
      pid: () => ({ id: String(process.pid) }),
      environment: () => ({ id: JSON.stringify([process.env, process.argv]) }),
    }
    const connection: Partial<ProviderConnection> = {
      virtualMachines: {
        describe: (query: Query) => Promise.resolve(misbehaviours[query.vmId]?.(query) as VirtualMachineDescription),
      } as unknown as ProviderConnection['virtualMachines'],
      copyGuestData: { method: 'agent-to-agent' },
      records: {
        async put({ record }) {
          await appendFile(join(options.directory, 'records'), `${JSON.stringify(record)}\n`)
        },
        list: async () =>
          (await readFile(join(options.directory, 'records'), 'utf8'))
            .trim()
            .split('\n')
            .map((line) => JSON.parse(line)),
      },
      close: () => appendFile(join(options.directory, 'closed'), 'yes'),
    }
    return connection as ProviderConnection
  },
})
