import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import ssh2, { type Connection } from 'ssh2'
import type { SshAccess } from '../../src/plugin-sdk/contract.ts'

export interface SshServer {
  /** With keys made for it. */
  access: SshAccess
  close(): Promise<void>
}

/** An SSH server on loopback that takes one key. `start` starts what runs a command; null leaves the command without an answer. */
export async function startSshServer(start: (command: string) => ChildProcess | null): Promise<SshServer> {
  const hostKey = newKey()
  const clientKey = newKey()
  const permitted = ssh2.utils.parseKey(clientKey.public)
  if (permitted instanceof Error) throw permitted
  const connections = new Set<Connection>()
  const server = new ssh2.Server({ hostKeys: [hostKey.private] }, (connection) => {
    connections.add(connection)
    connection.on('close', () => connections.delete(connection))
    connection.on('error', () => {}) // a client that goes away is what some tests are about
    connection.on('authentication', (context) => {
      const mine = context.method === 'publickey' && context.key.data.equals(permitted.getPublicSSH())
      const proven = mine && (!context.signature || permitted.verify(context.blob as Buffer, context.signature, context.hashAlgo))
      if (proven) context.accept()
      else context.reject()
    })
    connection.on('session', (accept) => {
      accept().on('exec', (acceptExec, _reject, { command }) => {
        const channel = acceptExec()
        const child = start(command)
        if (!child?.stdin || !child.stdout || !child.stderr) return
        child.stdin.on('error', () => {}) // it may end before it has read all
        channel.pipe(child.stdin)
        child.stdout.pipe(channel, { end: false })
        child.stderr.pipe(channel.stderr, { end: false })
        child.on('close', (code) => {
          channel.exit(code ?? 1)
          channel.end()
        })
      })
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    access: { endpoint: { host: '127.0.0.1', port }, user: 'root', privateKey: clientKey.private, hostKeys: [hostKey.public] },
    async close() {
      for (const connection of connections) connection.end()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}

/** ssh2 makes an ed25519 key that it can't read itself once in a while. */
export function newKey(): { public: string; private: string } {
  for (;;) {
    const key = ssh2.utils.generateKeyPairSync('ed25519')
    if (!(ssh2.utils.parseKey(key.public) instanceof Error) && !(ssh2.utils.parseKey(key.private) instanceof Error)) return key
  }
}
