/**
 * A guest for the SSH installer without a VM: a real SSH server on loopback whose commands run by real shells as root of a user, mount and
 * process namespace of its own, with its own tmpfs at /run (noexec, as systemd mounts it).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import ssh2, { type Connection } from 'ssh2'
import type { SshAccess } from '../../src/plugin-sdk/contract.ts'

export interface GuestOverSsh {
  access: SshAccess
  /** Runs a command there directly, as a test's second pair of eyes. */
  look(command: string): Promise<string>
  /** Every command that came over SSH. */
  commands: string[]
  /** Called before each command; return false to leave it without an answer. */
  onCommand: (count: number) => boolean
  close(): Promise<void>
}

export async function startGuestOverSsh(options: { shell?: string[]; prepare?: string } = {}): Promise<GuestOverSsh> {
  const namespace = spawn(
    'unshare',
    [
      '-Urmpf',
      '--kill-child',
      '--mount-proc',
      'sh',
      '-c',
      `mount -n -t tmpfs -o noexec none /run && ${options.prepare ?? 'true'} && echo ready && exec sleep 600`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  await once(namespace.stdout, 'data')
  const init = await firstChildOf(namespace)
  const enter = (command: string) =>
    spawn('nsenter', ['--preserve-credentials', '-t', init, '-U', '-m', '-p', ...(options.shell ?? ['sh', '-c']), command])

  const hostKey = newKey()
  const clientKey = newKey()
  const permitted = ssh2.utils.parseKey(clientKey.public)
  if (permitted instanceof Error) throw permitted
  const connections = new Set<Connection>()
  const guest: GuestOverSsh = {
    access: { endpoint: { host: '127.0.0.1', port: 0 }, user: 'root', privateKey: clientKey.private, hostKeys: [hostKey.public] },
    commands: [],
    onCommand: () => true,
    look: async (command) => {
      const child = enter(command)
      let output = ''
      child.stdout.on('data', (chunk) => (output += chunk))
      child.stderr.on('data', (chunk) => (output += chunk))
      await once(child, 'close')
      return output.trim()
    },
    async close() {
      for (const connection of connections) connection.end()
      await new Promise<void>((resolve) => server.close(() => resolve()))
      namespace.kill('SIGKILL')
      if (namespace.exitCode === null && namespace.signalCode === null) await once(namespace, 'exit')
    },
  }
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
        guest.commands.push(command)
        if (!guest.onCommand(guest.commands.length)) return
        const child = enter(command)
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
  guest.access.endpoint.port = (server.address() as { port: number }).port
  return guest
}

/** ssh2 makes an ed25519 key that it can't read itself once in a while. */
export function newKey(): { public: string; private: string } {
  for (;;) {
    const key = ssh2.utils.generateKeyPairSync('ed25519')
    if (!(ssh2.utils.parseKey(key.public) instanceof Error) && !(ssh2.utils.parseKey(key.private) instanceof Error)) return key
  }
}

/** `unshare --fork` stays outside of the process namespace: the namespace's first process is its child. */
async function firstChildOf(parent: ChildProcess): Promise<string> {
  const children = await readFile(`/proc/${parent.pid}/task/${parent.pid}/children`, 'utf8')
  return children.trim().split(' ')[0] ?? ''
}
