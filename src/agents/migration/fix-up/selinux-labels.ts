import type { FixUpStep } from './fix-up-step.ts'

const timeoutMs = 60_000

/** Files that were made here have no SELinux label, and a guest that enforces labels would keep its services from them. Comes after all others. */
export const selinuxLabels: FixUpStep = {
  name: 'selinux-labels',
  async apply(guest) {
    const { files } = guest
    const config = (await files.read('/etc/selinux/config')) ?? ''
    const type = /^SELINUXTYPE=([a-z]+)/m.exec(config)?.[1]
    if (!/^SELINUX=(enforcing|permissive)\b/m.test(config)) return { changed: [], otherwise: 'the guest does not use SELinux' }
    const unlabelled = [...new Set(files.created)]
    if (unlabelled.length === 0) return { changed: [], otherwise: 'no file was made that would lack its label' }
    try {
      if (!type) throw new Error('the policy has no name')
      await guest.run('setfiles', ['-F', `/etc/selinux/${type}/contexts/files/file_contexts`, ...unlabelled], timeoutMs)
      return { changed: unlabelled.map((path) => `${path} has its label`), otherwise: '' }
    } catch (error) {
      await files.write('/.autorelabel', '')
      const why = error instanceof Error ? error.message : String(error)
      return {
        changed: ['all files are labelled anew at the first boot, which takes its time and starts the guest once more'],
        couldNot: [`The new files alone could not be labelled: ${why}.`],
        otherwise: '',
      }
    }
  },
}
