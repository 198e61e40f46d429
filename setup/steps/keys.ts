import { cpSync } from 'node:fs'
import { join } from 'node:path'
import type { BuildStep } from '../build-steps.ts'
import { runCommand } from '../run-command.ts'

/** SSH keys of the guests: `client-key` logs in, `host-key` is the guests' own; `host-keys.pub` lists what a client may trust. Private ones are 0600. */
export const keys: BuildStep = {
  name: 'keys',
  what: "the guests' SSH keys",
  inputs: { values: ['ed25519'] },
  async build(directory, { signal }) {
    for (const name of ['client-key', 'host-key'])
      await runCommand('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', `portolan-guest-${name}`, '-f', join(directory, name)], {
        signal,
      })
    cpSync(join(directory, 'host-key.pub'), join(directory, 'host-keys.pub'))
  },
}
