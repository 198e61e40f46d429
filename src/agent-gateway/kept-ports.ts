import { readFile, rename, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import type { ListenAddress } from './agent-listener.ts'

/**
 * Agents redial the address that they were given, so a port that was free at the first start has to be the same at every later one: port 0 becomes what
 * `file` remembers for that host, or a free port that is remembered there.
 */
export async function keepPorts(file: string, addresses: ListenAddress[]): Promise<ListenAddress[]> {
  const kept = await readKept(file)
  const result: ListenAddress[] = []
  for (const [index, { host, port }] of addresses.entries()) {
    const key = `${host}#${index}`
    result.push({ host, port: port || (kept[key] ??= await freePort(host)) })
  }
  // In one step: half a file would keep the control plane from starting.
  await writeFile(`${file}.partial`, JSON.stringify(kept, null, 2), { mode: 0o600 })
  await rename(`${file}.partial`, file)
  return result
}

async function readKept(file: string): Promise<Record<string, number>> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Record<string, number>
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw error
  }
}

async function freePort(host: string): Promise<number> {
  const server = createServer()
  await new Promise<void>((done, fail) => server.once('error', fail).listen(0, host, done))
  const { port } = server.address() as AddressInfo
  await new Promise((done) => server.close(done))
  return port
}
