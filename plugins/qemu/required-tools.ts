import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import type { QemuOptions } from './options.ts'

const run = promisify(execFile)

/** Throws INVALID_OPTIONS that names the first program which is missing. */
export async function requireTools(options: QemuOptions, signal: AbortSignal): Promise<void> {
  const tools = [
    {
      program: options.qemuBinary,
      remedy: "Install qemu-system-x86, or set the cloud's qemuBinary option.",
      path: ['options', 'qemuBinary'],
    },
    {
      program: options.qemuImgBinary,
      remedy: "Install qemu-utils, or set the cloud's qemuImgBinary option.",
      path: ['options', 'qemuImgBinary'],
    },
    { program: 'flock', remedy: 'Install util-linux.', path: [] },
  ]
  for (const { program, remedy, path } of tools)
    try {
      await run(program, ['--version'], { signal, timeout: 20_000 })
    } catch (error) {
      throw new ProviderError('INVALID_OPTIONS', `The program ${program} does not run here: ${(error as Error).message.split('\n')[0]}.`, {
        retryable: false,
        remedy,
        path,
        cause: error,
      })
    }
}
