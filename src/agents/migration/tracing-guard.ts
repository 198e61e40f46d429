import { spawn } from 'node:child_process'
import type { Socket } from 'node:net'

/**
 * Waits for the agent's end, and removes what a killed agent leaves in the kernel. Its standard input ends with the agent: nothing is started to look for that, since a program a second
 * takes a twentieth of a processor that is emulated. Arguments: the tracefs instance, a mount point of ours or ''.
 */
const script = `
trap '' HUP INT TERM
read -r nothing
[ -d "$1" ] && rmdir "$1"
[ -n "$2" ] && [ -d "$2/instances" ] && umount "$2"
`

/** A process of its own that outlives this one by a moment. */
export function guardTracing(instance: string, mountPoint: string | null): void {
  const guard = spawn('sh', ['-c', script, 'portolan-tracing', instance, mountPoint ?? ''], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
    cwd: '/',
  })
  // Without sh there is no guard, and a clean exit removes it all the same.
  guard.on('error', () => {})
  guard.stdin.on('error', () => {})
  guard.unref()
  ;(guard.stdin as Socket).unref()
}
