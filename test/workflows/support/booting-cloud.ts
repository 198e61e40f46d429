/** A provider that can't fork, and runs, in place of a guest, a TLS server with the files that it was told to put there. What its guests say to WARM_UP is given. */
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { createServer, type Server, type TLSSocket } from 'node:tls'
import type { InstantiateRequest, PowerState, ProviderConnection } from '../../../src/plugin-sdk/index.ts'

export interface BootingCloud {
  connection: ProviderConnection
  /** In their order. */
  calls: string[]
  asked: InstantiateRequest[]
  /** By unique id. */
  guests: Map<string, { server: Server; sockets: Set<TLSSocket> }>
  networks: { id: string }[]
  freeMemoryBytes: number | undefined
  power: PowerState
  /** Answer to WARM_UP. */
  warmth: object
  close(): void
}

export const hello = { type: 'HELLO', runtime: 'node', version: '18.20.4', libraries: {}, protocol: 1 }

export function bootingCloud(): BootingCloud {
  const guests: BootingCloud['guests'] = new Map()
  const end = (id: string) => {
    const guest = guests.get(id)
    guests.delete(id)
    for (const socket of guest?.sockets ?? []) socket.destroy()
    guest?.server.close()
  }
  const cloud: BootingCloud = {
    calls: [],
    asked: [],
    guests,
    networks: [{ id: 'default' }],
    freeMemoryBytes: 2 ** 30,
    power: 'RUNNING',
    warmth: { type: 'READY', libraries: {}, warmUpMs: 5 },
    close: () => guests.forEach((_, id) => end(id)),
    connection: {
      discoverTopology: async () => ({
        regions: [{ zones: [{ hosts: [{ freeMemoryBytes: cloud.freeMemoryBytes }] }] }],
        networks: cloud.networks,
        virtualMachines: [...guests.keys()].map((id) => ({ id: `vm-${id}`, uniqueId: id })),
      }),
      virtualMachines: { describe: async () => ({ power: cloud.power }) },
      destination: {
        async instantiate(request: InstantiateRequest) {
          cloud.calls.push('instantiate')
          cloud.asked.push(request)
          guests.set(request.virtualMachine.uniqueId, await boot(request))
          return { vmId: `vm-${request.virtualMachine.uniqueId}` }
        },
        async delete({ vmId }: { vmId: string }) {
          cloud.calls.push(`delete ${vmId}`)
          end(vmId.slice(3))
        },
      },
      network: {
        isolate: async () => void cloud.calls.push('isolate'),
        async reachability({ vmId }: { vmId: string }) {
          cloud.calls.push('reachability')
          const address = guests.get(vmId.slice(3))?.server.address()
          const port = typeof address === 'object' ? (address?.port ?? 0) : 0
          return { fromControlPlane: { host: '127.0.0.1', port }, controlPlaneFromGuest: null }
        },
      },
    } as unknown as ProviderConnection,
  }

  async function boot({ inject }: InstantiateRequest) {
    const file = (name: string) => inject.find(({ path }) => path.endsWith(name))?.content
    const identity = { key: file('server.pem'), cert: file('server.pem'), ca: file('authority.pem') }
    const sockets = new Set<TLSSocket>()
    const server = createServer({ ...identity, requestCert: true, rejectUnauthorized: true })
    server.on('secureConnection', (socket) => {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.write(`${JSON.stringify(hello)}\n`)
      createInterface({ input: socket })
        .on('line', () => socket.write(`${JSON.stringify(cloud.warmth)}\n`))
        .on('error', () => {})
    })
    server.on('tlsClientError', () => cloud.calls.push('refused'))
    await once(server.listen(0, '127.0.0.1'), 'listening')
    return { server, sockets }
  }
  return cloud
}
