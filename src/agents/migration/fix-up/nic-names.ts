import type { FixUpNic, FixUpStep } from './fix-up-step.ts'

/** Interfaces keep the names that the guest's configuration knows, whatever slot they are in now: the copy has the same MACs. */
export const nicNames: FixUpStep = {
  name: 'nic-names',
  async apply({ files }, { nics }) {
    const systemd = (await files.exists('/usr/lib/systemd')) || (await files.exists('/lib/systemd'))
    const udev = (await files.exists('/etc/udev')) || (await files.exists('/lib/udev'))
    if (!systemd && !udev) return { changed: [], otherwise: 'no udev in the guest: the kernel names its interfaces' }
    const wanted = systemd ? linkFiles(nics) : udevRules(nics, (await files.read('/etc/udev/rules.d/70-persistent-net.rules')) ?? '')
    const changed: string[] = []
    for (const { path, content } of wanted) if (await files.write(path, content)) changed.push(path)
    return { changed, otherwise: 'each interface has its name by its MAC already' }
  },
}

/** systemd's way, sorted before everybody else's. The prefix of our files' names keeps them apart from the guest's own. */
export function linkFiles(nics: FixUpNic[]): { path: string; content: string }[] {
  return nics.map(({ mac, name }) => ({
    path: `/etc/systemd/network/00-portolan-${name}.link`,
    content: `# Written when this machine was moved: the interface keeps its name.\n[Match]\nMACAddress=${mac}\nType=ether\n\n[Link]\nName=${name}\n`,
  }))
}

/** For a udev of before systemd. A rule of the guest's own for the same MAC is as good. */
export function udevRules(nics: FixUpNic[], persistent: string): { path: string; content: string }[] {
  const missing = nics.filter(({ mac }) => !persistent.toLowerCase().includes(mac))
  if (missing.length === 0) return []
  const rules = missing.map(
    ({ mac, name }) => `SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="${mac}", ATTR{type}=="1", NAME="${name}"`,
  )
  return [{ path: '/etc/udev/rules.d/70-portolan-net.rules', content: `# Written when this machine was moved.\n${rules.join('\n')}\n` }]
}
