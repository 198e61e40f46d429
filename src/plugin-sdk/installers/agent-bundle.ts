/** What a guest must have so that the agent bundle runs in it, read from the bundle itself. Its loader and C library are its own, so the guest's don't count. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ProviderError } from '../errors.ts'

export interface AgentBundle {
  /** The compressed archive that is streamed into the guest. */
  archivePath: string
  unpackedBytes: number
  architecture: 'x86_64' | 'aarch64'
}

/** Reads `node` and the size of everything in a directory made by the set-up. Throws ProviderError INTERNAL where it isn't one. */
export async function readAgentBundle(directory: string): Promise<AgentBundle> {
  const archivePath = join(directory, 'bundle.tar.gz')
  try {
    await stat(archivePath)
    const node = await readFile(join(directory, 'node'))
    return {
      archivePath,
      unpackedBytes: (await sizeOf(directory)) - (await stat(archivePath)).size,
      architecture: architectureOf(node),
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
function architectureOf(elf: Buffer): AgentBundle['architecture'] {
  const machine = elf.subarray(0, 4).toString('latin1') === '\x7fELF' ? elf.readUInt16LE(18) : 0
  if (machine === 62) return 'x86_64'
  if (machine === 183) return 'aarch64'
  throw notABundle('node', new Error(`ELF machine ${machine} is neither x86-64 nor AArch64`))
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
