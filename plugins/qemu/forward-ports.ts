import { createServer } from 'node:net'
import { once } from 'node:events'
import type { Forward } from './machine.ts'

/** Free TCP ports of this machine for the guest's ports. They aren't kept: whoever binds them checks again. */
export async function pickForwards(address: string, guestPorts: readonly number[]): Promise<Forward[]> {
  const servers = await Promise.all(guestPorts.map(() => listen(address)))
  const forwards = servers.map((server, position) => {
    const bound = server.address()
    if (bound === null || typeof bound === 'string') throw new Error('A TCP server has no port.')
    return { guestPort: guestPorts[position] ?? 0, hostPort: bound.port }
  })
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return forwards
}

async function listen(host: string) {
  const server = createServer()
  server.listen({ host, port: 0 })
  await once(server, 'listening')
  return server
}
