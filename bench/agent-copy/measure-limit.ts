import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { rolldown } from 'rolldown'
import { blockBytes, maxExtentBlocks } from '../../src/transfer/block-grain.ts'
import type { Guest } from './guest.ts'

export interface AgentLimit {
  readMibPerSecond: number
  hashMibPerSecond: number
  encryptMibPerSecond: number
}

/** Each stage alone in the source guest; `agentDirectory` holds the agent's runtime there. Caches are the caller's business. */
export async function prepareLimit(source: Guest, agentDirectory: string, directory: string): Promise<() => Promise<AgentLimit>> {
  const bundle = await rolldown({ input: join(import.meta.dirname, 'agent-limit.ts'), platform: 'node' })
  const file = join(directory, 'agent-limit.mjs')
  await bundle.write({ file, format: 'esm' })
  await bundle.close()
  await source.put(`${agentDirectory}/agent-limit.mjs`, readFileSync(file, 'utf8'))
  return async () => {
    const size = Number(await source.run(`cat /sys/block/${source.diskDevice}/size`)) * 512
    const extents = Math.floor(size / (maxExtentBlocks * blockBytes))
    // Started as the agent is, with all that its launcher knows about the guest.
    const command = `cd ${agentDirectory} && sed s/agent.mjs/agent-limit.mjs/ run >run-limit && sh ./run-limit /dev/${source.diskDevice} ${extents}`
    return JSON.parse(await source.run(command)) as AgentLimit
  }
}
