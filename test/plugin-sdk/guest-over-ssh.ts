/**
 * A guest for the SSH installer without a VM: a real SSH server on loopback whose commands run by real shells as root of a user, mount and
 * process namespace of its own, with its own tmpfs at /run (noexec, as systemd mounts it).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import type { SshAccess } from '../../src/plugin-sdk/contract.ts'
import { startSshServer } from '../support/ssh-server.ts'

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

  const server = await startSshServer((command) => {
    guest.commands.push(command)
    return guest.onCommand(guest.commands.length) ? enter(command) : null
  })
  const guest: GuestOverSsh = {
    access: server.access,
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
      await server.close()
      namespace.kill('SIGKILL')
      if (namespace.exitCode === null && namespace.signalCode === null) await once(namespace, 'exit')
    },
  }
  return guest
}

/** `unshare --fork` stays outside of the process namespace: the namespace's first process is its child. */
async function firstChildOf(parent: ChildProcess): Promise<string> {
  const children = await readFile(`/proc/${parent.pid}/task/${parent.pid}/children`, 'utf8')
  return children.trim().split(' ')[0] ?? ''
}
