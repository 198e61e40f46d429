import { chmodSync, cpSync, mkdirSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { BuildStep } from '../build-steps.ts'
import { runInMountNamespace } from '../run-in-mount-namespace.ts'

const guests = resolve(import.meta.dirname, '..', '..', 'guests')
const script = resolve(import.meta.dirname, '..', 'disk-image.sh')

/** `disk.raw`: a disk that boots by itself, made of the Debian tree, `guests/<name>/root`, and `guests/<name>/customise` run inside. */
export function guestImage(name: 'debian' | 'tiny', sizeMib: number): BuildStep {
  const own = join(guests, name)
  const shared = join(guests, 'shared')
  const workload = join(guests, 'workload')
  return {
    name,
    what: `the disk image of the ${name} guest`,
    inputs: { values: [String(sizeMib)], files: [script, own, shared, workload], steps: ['keys', 'guest-tree'] },
    async build(directory, { resultOf, signal }) {
      const overlay = join(directory, 'overlay')
      const keys = resultOf('keys')
      cpSync(join(shared, 'root'), overlay, { recursive: true })
      cpSync(join(own, 'root'), overlay, { recursive: true })
      for (const script of ['dhcp', 'udhcpc-script']) cpSync(join(shared, script), join(overlay, 'usr/local/lib/guest', script))
      cpSync(workload, join(overlay, 'usr/local/lib/workload'), { recursive: true, filter: (path) => !path.includes('__pycache__') })
      cpSync(join(keys, 'host-key'), join(overlay, 'etc/ssh/ssh_host_ed25519_key'))
      cpSync(join(keys, 'host-key.pub'), join(overlay, 'etc/ssh/ssh_host_ed25519_key.pub'))
      mkdirSync(join(overlay, 'root/.ssh'), { recursive: true })
      // sshd ignores keys that others could have written, and the clone's umask is the user's.
      for (const path of ['root', 'root/.ssh']) chmodSync(join(overlay, path), 0o700)
      cpSync(join(keys, 'client-key.pub'), join(overlay, 'root/.ssh/authorized_keys'))
      chmodSync(join(overlay, 'root/.ssh/authorized_keys'), 0o600)
      const args = [join(resultOf('guest-tree'), 'tree.tar'), overlay, join(own, 'customise'), String(sizeMib), join(directory, 'disk.raw')]
      await runInMountNamespace(script, args, directory, signal)
      rmSync(overlay, { recursive: true })
    },
  }
}
