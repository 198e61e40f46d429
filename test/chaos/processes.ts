import { readdir, readFile } from 'node:fs/promises'

export interface SiteProcess {
  pid: number
  arguments: string[]
}

/** The QEMU processes of a site: those that name a file below its directory. */
export async function processesOf(siteDirectory: string): Promise<SiteProcess[]> {
  const all = await everyProcess()
  return all.filter(({ arguments: words }) => words[0]?.includes('qemu-system') && words.some((word) => word.includes(siteDirectory)))
}

/** Those of libvirtd itself. */
export async function libvirtdOf(siteDirectory: string): Promise<SiteProcess[]> {
  const all = await everyProcess()
  return all.filter(({ arguments: words }) => words[0]?.endsWith('libvirtd') && words.some((word) => word.startsWith(`${siteDirectory}/`)))
}

async function everyProcess(): Promise<SiteProcess[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  return Promise.all(
    pids.map(async (pid) => ({
      pid: Number(pid),
      arguments: (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0'),
    })),
  )
}
