import { appendFileSync, cpSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { gzipSync } from 'node:zlib'
import { rolldown } from 'rolldown'
import type { BuildStep } from '../build-steps.ts'
import { tarEnd, tarWithoutEnd } from '../tar-without-end.ts'

const sources = resolve(import.meta.dirname, '..', '..', 'src')

/** The runtime with `agent.mjs`, the agent in one file, and everything as `bundle.tar.gz`, which is what is streamed into a guest. */
export function agentBundle(entry: string = join(sources, 'agents', 'migration', 'main.ts')): BuildStep {
  return {
    name: 'agent-bundle',
    what: 'the migration agent',
    inputs: {
      values: [relative(sources, entry)],
      files: [resolve(entry, '..'), join(sources, 'transfer'), import.meta.filename],
      steps: ['agent-runtime'],
    },
    async build(directory, { resultOf, signal }) {
      const bundle = await rolldown({ input: entry, platform: 'node', cwd: resolve(sources, '..') })
      await bundle.write({ file: join(directory, 'agent.mjs'), format: 'esm', codeSplitting: false })
      await bundle.close()
      const runtime = resultOf('agent-runtime')
      for (const name of ['node', 'lib', 'run']) cpSync(join(runtime, name), join(directory, name), { recursive: true })
      const agent = Buffer.concat([await tarWithoutEnd(directory, ['agent.mjs'], signal), tarEnd])
      const archive = join(directory, 'bundle.tar.gz')
      cpSync(join(runtime, 'runtime.tar.gz'), archive)
      appendFileSync(archive, gzipSync(agent, { level: 9 }))
    },
  }
}
