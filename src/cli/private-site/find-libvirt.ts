import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const systemUri = 'qemu:///system'

/**
 * The user's own libvirt, used as it is and never reconfigured: its URI when it answers within 5 s and is set up for use, with its storage pool `default` and some network running,
 * else null. Where an init system runs it, installing the package alone makes it answer, and no more.
 * Inside a private network namespace it would answer too, but its guests couldn't be reached from there: ask before entering one.
 */
export async function findLibvirt(signal?: AbortSignal): Promise<{ uri: string } | null> {
  try {
    const names = async (...command: string[]) => {
      const { stdout } = await promisify(execFile)('virsh', ['--quiet', '--connect', systemUri, ...command, '--name'], {
        env: { ...process.env, LC_ALL: 'C' },
        timeout: 5000,
        ...(signal ? { signal } : {}),
      })
      return stdout.split('\n').flatMap((line) => line.trim() || [])
    }
    const [pools, networks] = [await names('pool-list'), await names('net-list')]
    return pools.includes('default') && networks.length > 0 ? { uri: systemUri } : null
  } catch {
    signal?.throwIfAborted()
    // Not installed, not running, or not for this user: all the same to the caller, who then starts a private one.
    return null
  }
}
