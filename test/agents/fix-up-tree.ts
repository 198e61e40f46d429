/** A guest's tree in a directory, as the steps of the fix-up see it. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Guest } from '../../src/agents/migration/fix-up/fix-up-step.ts'
import { guestFiles } from '../../src/agents/migration/fix-up/guest-files.ts'

export interface GuestTree {
  guest: Guest
  directory: string
  /** Programs that the guest's tools were called as. */
  ran: string[][]
  put(files: Record<string, string | Buffer>): void
  read(path: string): string
  remove(): void
}

export function plantTree(files: Record<string, string | Buffer>, change: Partial<Guest> = {}): GuestTree {
  const directory = mkdtempSync(join(tmpdir(), 'portolan-tree-'))
  const ran: string[][] = []
  const put = (more: typeof files) => {
    for (const [path, content] of Object.entries(more)) {
      mkdirSync(dirname(join(directory, path)), { recursive: true })
      writeFileSync(join(directory, path), content)
    }
  }
  put(files)
  const root = { device: '/dev/vda1', partition: 1, type: 'ext4', uuid: '6f1d4c1e-3b0a-4b6e-9a55-0d7d6c0e9b11', label: null }
  return {
    directory,
    ran,
    put,
    read: (path) => readFileSync(join(directory, path), 'utf8'),
    remove: () => rmSync(directory, { recursive: true }),
    guest: {
      diskName: 'vda',
      directory,
      files: guestFiles(directory, { inPlace: false }),
      fileSystems: [root],
      rootFileSystem: root,
      run: async (program, args) => {
        ran.push([program, ...args])
        return ''
      },
      ...change,
    },
  }
}
