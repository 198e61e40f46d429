import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** Every process in a network namespace, given as `/proc/<pid>/ns/net` names it, with its name. */
export function processesOfNetwork(network: string): { pid: number; name: string }[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      try {
        if (readlinkSync(`/proc/${entry}/ns/net`) !== network) return []
        return [{ pid: Number(entry), name: readFileSync(`/proc/${entry}/comm`, 'utf8').trim() }]
      } catch {
        return [] // It has ended since.
      }
    })
}
