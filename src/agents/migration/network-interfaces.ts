import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** The interfaces that stand for hardware, with their names of today. Bridges, bonds, VLANs and loopback are made by the guest itself. */
export async function listNics(root = '/sys/class/net'): Promise<{ mac: string; name: string }[]> {
  const names = (await readdir(root)).toSorted()
  const nics = await Promise.all(
    names.map(async (name) => {
      const hardware = (await readdir(join(root, name))).includes('device')
      const mac = (await readFile(join(root, name, 'address'), 'latin1').catch(() => '')).trim().toLowerCase()
      return hardware && /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac) ? [{ mac, name }] : []
    }),
  )
  return nics.flat()
}
