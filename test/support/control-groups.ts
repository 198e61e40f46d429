import { createHash } from 'node:crypto'
import { readdir, realpath } from 'node:fs/promises'
import { join } from 'node:path'

/** The control groups that a qemu cloud has made for its children, wherever they are. */
export async function controlGroupsOfChildren(stateDirectory: string): Promise<string[]> {
  const parents = join(await realpath(stateDirectory), 'parents')
  const name = `portolan-${createHash('sha256').update(parents).digest('hex').slice(0, 8)}`
  return below('/sys/fs/cgroup', name)
}

async function below(directory: string, name: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => [])
  const found = entries
    .filter((entry) => entry.isDirectory())
    .map(async (entry) => {
      const path = join(directory, entry.name)
      return path.includes(name) ? [path, ...(await below(path, name))] : below(path, name)
    })
  return (await Promise.all(found)).flat()
}
