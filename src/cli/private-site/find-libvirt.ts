import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const systemUri = 'qemu:///system'

/**
 * The user's own libvirt, used as it is and never reconfigured: its URI when it answers within 5 s, else null.
 * Inside a private network namespace it would answer too, but its guests couldn't be reached from there: ask before entering one.
 */
export async function findLibvirt(signal?: AbortSignal): Promise<{ uri: string } | null> {
  try {
    await promisify(execFile)('virsh', ['--connect', systemUri, 'version'], {
      env: { ...process.env, LC_ALL: 'C' },
      timeout: 5000,
      ...(signal ? { signal } : {}),
    })
    return { uri: systemUri }
  } catch {
    signal?.throwIfAborted()
    // Not installed, not running, or not for this user: all the same to the caller, who then starts a private one.
    return null
  }
}
