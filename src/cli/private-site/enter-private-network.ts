/**
 * Demo and tests live in a network namespace without a name: bridges, DHCP servers and listeners made there exist nowhere else on the machine,
 * and the kernel removes them with the namespace's last process. Sockets in the file system still lead in and out.
 */
import { readlinkSync } from 'node:fs'

/** Holds the namespace's identity, not merely "yes": inherited by a process that has left the namespace, it no longer matches. */
const marker = 'PORTOLAN_PRIVATE_NETWORK'

/** Brings loopback up and marks the environment, then becomes the command that follows. */
const insideScript = `ip link set lo up || exit 1
${marker}=$(readlink /proc/self/ns/net) || exit 1
export ${marker}
exec "$@"`

export function isInPrivateNetwork(): boolean {
  return process.platform === 'linux' && process.env[marker] === readlinkSync('/proc/self/ns/net')
}

/**
 * Returns at once when already inside. Otherwise this process becomes (same pid, same terminal) the same command line, started from its beginning
 * in a new network namespace: nothing after the call runs outside. Needs Linux and root.
 */
export async function enterPrivateNetwork(): Promise<void> {
  if (isInPrivateNetwork()) return
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || process.execve === undefined)
    throw new Error(
      'A private network for virtual machines can be made on Linux by root only; nothing was started. Run the command through npm, which uses sudo, or as root.',
    )
  process.execve(
    '/usr/bin/env',
    ['env', 'unshare', '--net', '--', 'sh', '-c', insideScript, 'sh', process.execPath, ...process.execArgv, ...process.argv.slice(1)],
    { ...process.env },
  )
}
