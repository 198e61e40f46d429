import { cpSync, linkSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { rolldown } from 'rolldown'
import type { BuildStep } from '../build-steps.ts'
import { runCommand } from '../run-command.ts'

const sources = resolve(import.meta.dirname, '..', '..', 'src')

/** The runtime with `agent.mjs`, the agent in one file, and everything but Node as `bundle.tar`: that and `node.zst` are what is streamed into a guest. */
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
      for (const name of ['lib', 'unpack', 'run']) cpSync(join(runtime, name), join(directory, name), { recursive: true })
      // Never written again, here or there: a build that changes them makes new ones.
      for (const name of ['node', 'node.zst']) linkSync(join(runtime, name), join(directory, name))
      const args = ['--create', '--file', 'bundle.tar', '--format=ustar', '--owner=0', '--group=0', '--numeric-owner']
      await runCommand('tar', [...args, 'unpack', 'run', 'lib', 'agent.mjs'], { cwd: directory, signal })
    },
  }
}
