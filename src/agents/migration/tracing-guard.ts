import { spawn } from 'node:child_process'

/** Waits for the agent's end, and removes what a killed agent leaves in the kernel. Arguments: the agent's pid, the tracefs instance, a mount point of ours or ''. */
const script = `
trap '' HUP INT TERM
while [ -e "/proc/$1/exe" ]; do sleep 1; done
[ -d "$2" ] && rmdir "$2"
[ -n "$3" ] && [ -d "$3/instances" ] && umount "$3"
`

/** A process of its own that outlives this one by a second at most. */
export function guardTracing(instance: string, mountPoint: string | null): void {
  const guard = spawn('sh', ['-c', script, 'portolan-tracing', String(process.pid), instance, mountPoint ?? ''], {
    detached: true,
    stdio: 'ignore',
    cwd: '/',
  })
  // Without sh there is no guard, and a clean exit removes it all the same.
  guard.on('error', () => {})
  guard.unref()
}
