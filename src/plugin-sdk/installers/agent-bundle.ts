/** What a guest must have so that the agent bundle runs in it, read from the bundle itself. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ProviderError } from '../errors.ts'

export interface AgentBundle {
  /** The compressed archive that is streamed into the guest. */
  archivePath: string
  unpackedBytes: number
  architecture: 'x86_64' | 'aarch64'
  /** The least glibc its programs and libraries link against; null where they bring their own or need none. */
  glibc: { major: number; minor: number } | null
}

/** Reads `node`, `lib/` and the size of everything in a directory made by the set-up. Throws ProviderError INTERNAL where it isn't one. */
export async function readAgentBundle(directory: string): Promise<AgentBundle> {
  const archivePath = join(directory, 'bundle.tar.gz')
  try {
    await stat(archivePath)
    const node = await readFile(join(directory, 'node'))
    const libraries = await readdir(join(directory, 'lib')).catch(() => [] as string[])
    const ownLibc = libraries.some((library) => /^(ld-linux.*|libc)\.so/.test(library))
    const binaries = [node, ...(await Promise.all(libraries.map((library) => readFile(join(directory, 'lib', library)))))]
    return {
      archivePath,
      unpackedBytes: (await sizeOf(directory)) - (await stat(archivePath)).size,
      architecture: architectureOf(node),
      glibc: ownLibc ? null : newest(binaries.map(glibcOf)),
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

/** The newest version tag such as `GLIBC_2.28` in the file: what the dynamic loader will ask for. */
function glibcOf(elf: Buffer): { major: number; minor: number } | null {
  const tags: { major: number; minor: number }[] = []
  for (let at = elf.indexOf('GLIBC_'); at !== -1; at = elf.indexOf('GLIBC_', at + 6)) {
    const match = /^GLIBC_(\d+)\.(\d+)\b/.exec(elf.toString('latin1', at, at + 16))
    if (match) tags.push({ major: Number(match[1]), minor: Number(match[2]) })
  }
  return newest(tags)
}

function newest(versions: ({ major: number; minor: number } | null)[]): { major: number; minor: number } | null {
  const known = versions.filter((version) => version !== null)
  return known.toSorted((a, b) => b.major - a.major || b.minor - a.minor)[0] ?? null
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
