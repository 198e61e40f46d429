/** What a guest must have so that the agent bundle runs in it, read from the bundle itself. Its loader and C library are its own, so the guest's don't count. */
import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ProviderError } from '../errors.ts'

export interface AgentBundle {
  /** Everything but Node as a tar archive, with `unpack/run <file>`, which unpacks Node from its standard input: nothing in the guest has to know zstd. */
  archivePath: string
  /** Node, compressed by zstd. */
  compressedNodePath: string
  unpackedBytes: number
  architecture: 'x86_64' | 'aarch64'
}

/** Looks at `node`, and at the size of everything in a directory made by the set-up. Throws ProviderError INTERNAL where it isn't one. */
export async function readAgentBundle(directory: string): Promise<AgentBundle> {
  const archivePath = join(directory, 'bundle.tar')
  const compressedNodePath = join(directory, 'node.zst')
  try {
    const packed = await Promise.all([archivePath, compressedNodePath].map(async (path) => (await stat(path)).size))
    return {
      archivePath,
      compressedNodePath,
      unpackedBytes: packed.reduce((left, bytes) => left - bytes, await sizeOf(directory)),
      architecture: await architectureOf(join(directory, 'node')),
    }
  } catch (error) {
    if (error instanceof ProviderError) throw error
    throw notABundle(directory, error)
  }
}

async function sizeOf(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  const sizes = await Promise.all(files.map(async (file) => (await stat(join(file.parentPath, file.name))).size))
  return sizes.reduce((sum, size) => sum + size, 0)
}

/** From the ELF header: `e_machine` at offset 18. */
async function architectureOf(program: string): Promise<AgentBundle['architecture']> {
  const file = await open(program)
  try {
    const elf = Buffer.alloc(20)
    await file.read(elf)
    const machine = elf.subarray(0, 4).toString('latin1') === '\x7fELF' ? elf.readUInt16LE(18) : 0
    if (machine === 62) return 'x86_64'
    if (machine === 183) return 'aarch64'
    throw notABundle('node', new Error(`ELF machine ${machine} is neither x86-64 nor AArch64`))
  } finally {
    await file.close()
  }
}

function notABundle(directory: string, cause: unknown): ProviderError {
  return new ProviderError(
    'INTERNAL',
    `${JSON.stringify(directory)} is not an agent bundle: ${cause instanceof Error ? cause.message : String(cause)}.`,
    {
      retryable: false,
      remedy: 'Run the set-up again (npm run setup): it builds the bundle.',
      cause,
    },
  )
}
