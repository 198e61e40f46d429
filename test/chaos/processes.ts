import { readdir, readFile } from 'node:fs/promises'

interface SiteProcess {
  pid: number
  arguments: string[]
}

/** The QEMU processes that name a file below a directory: a site's, or one of its clouds'. */
export async function machineProcesses(directory: string): Promise<SiteProcess[]> {
  const all = await everyProcess()
  return all.filter(({ arguments: words }) => words[0]?.includes('qemu-system') && words.some((word) => word.includes(`${directory}/`)))
}

/** The libvirtd whose configuration is below a directory. */
export async function libvirtdOf(directory: string): Promise<SiteProcess[]> {
  const all = await everyProcess()
  return all.filter(({ arguments: words }) => words[0]?.endsWith('libvirtd') && words.some((word) => word.startsWith(`${directory}/`)))
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
