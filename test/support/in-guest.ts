import { readGuestAccess } from '../../setup/artifacts.ts'
import type { DemoCloud } from '../../src/cli/demo-site.ts'
import { openSshSession } from '../../src/plugin-sdk/installers/ssh-session.ts'

const agentDirectory = '/run/portolan-agent'

/** Runs a shell script as root in a guest, which may take so long to let anybody in, and again so long without a word. @returns what it printed. @throws ProviderError when nobody can log in, Error when the script fails. */
export async function inGuest(cloud: DemoCloud, vmId: string, script: string, patienceMs = 400_000): Promise<string> {
  const { fromControlPlane } = await cloud.connection.network.reachability({ vmId, guestPort: 22 })
  if (!fromControlPlane) throw new Error('The guest has no way in.')
  const session = await openSshSession({ endpoint: fromControlPlane, ...readGuestAccess() }, AbortSignal.timeout(patienceMs))
  try {
    const { exitCode, stdout, stderr } = await session.run(script, { idleTimeoutMs: patienceMs })
    if (exitCode !== 0) throw new Error(`The script ended with ${exitCode} in the guest: ${stderr}`)
    return stdout.trim()
  } finally {
    await session.close()
  }
}

/** To be run in the source: waits until its file systems are frozen, for a switchover that isn't void yet, and prints where the freeze's files are. */
export const untilFrozen = `freeze=
while [ -z "$freeze" ]; do
  for found in ${agentDirectory}/freeze-*; do
    grep -qs frozen "$found/result" && [ ! -e "$found/void" ] && freeze=$found
  done
  sleep 0.05
done
echo "$freeze"`

/** To be run in the source, with \`$freeze\` set: waits for the thaw, and prints why it came. */
export const untilThawed = `while [ ! -e "$freeze/void" ]; do sleep 0.2; done; cat "$freeze/void"`

/** To be run in the source: KILL ends its agent as a crash would, STOP holds it. */
export const signalAgent = (signal: 'KILL' | 'STOP' | 'CONT') => `read -r agent _ <${agentDirectory}/process && kill -${signal} "$agent"`

/** To be run in the source: every place where something of ours could be left, one thing a line. The tracefs is mounted for the look only. */
export const tracesInSource = `cut -d" " -f2-3 /proc/self/mounts
ls -A /run /root
mkdir /dev/look && mount -n -t tracefs look /dev/look && { ls /dev/look/instances; umount -n /dev/look; }; rmdir /dev/look
ls -l /proc/[0-9]*/exe 2>/dev/null | grep -o ' -> .*portolan.*'
cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -o 'portolan[-]t[a-z]*'
true`
