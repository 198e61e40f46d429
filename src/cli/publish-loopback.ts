import { connect, createServer, type Server } from 'node:net'
import { pipeline } from 'node:stream'

/**
 * Makes a port of a private network namespace reachable from the machine's own loopback. Sockets in the file system belong to no network namespace, so one
 * forwarder listens there (`offerPort`, inside), and another one on loopback leads to it (`publishOnLoopback`, outside).
 */
export async function offerPort(socketPath: string, port: number): Promise<Server> {
  return forward({ path: socketPath }, { host: '127.0.0.1', port })
}

/** @returns the server and the port that it took. */
export async function publishOnLoopback(socketPath: string, port: number): Promise<{ server: Server; port: number }> {
  const server = await forward({ host: '127.0.0.1', port }, { path: socketPath })
  const address = server.address()
  return { server, port: typeof address === 'object' && address ? address.port : port }
}

type Address = { path: string } | { host: string; port: number }

function forward(from: Address, to: Address): Promise<Server> {
  const server = createServer((incoming) => {
    const outgoing = connect(to)
    // Either side's end, clean or not, ends the other; a failed dial shows as a closed connection to the client.
    pipeline(incoming, outgoing, () => incoming.destroy())
    pipeline(outgoing, incoming, () => outgoing.destroy())
  })
  return new Promise((done, fail) => {
    server.once('error', fail)
    server.listen(from, () => done(server))
  })
}
