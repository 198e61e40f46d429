/** A virsh of our own: the real one neither crashes nor talks without an end on demand. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { libvirtClient } from '../../../plugins/libvirt/client.ts'

let directory: string

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-virsh-'))
  vi.stubEnv('PATH', `${directory}:${process.env['PATH']}`)
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(directory, { recursive: true, force: true })
})

const virshThatRuns = (script: string) => writeFile(join(directory, 'virsh'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
const ask = () => libvirtClient('qemu:///system').call(['list'], { what: 'list the virtual machines' })

test('a virsh that was ended by a signal, as by the pipe to an ssh that is gone, has not answered: what was asked may be asked again', async () => {
  await virshThatRuns('kill -PIPE $$')
  await expect(ask()).rejects.toMatchObject({
    code: 'UNREACHABLE',
    retryable: true,
    message:
      'The connection to libvirt broke before it could list the virtual machines (virsh was ended by SIGPIPE); it may have been applied.',
  })
})

test('an answer without an end is cut off, and no reason to ask again', async () => {
  await virshThatRuns('exec yes')
  await expect(ask()).rejects.toMatchObject({
    code: 'INTERNAL',
    retryable: false,
    message: expect.stringContaining('more than 67108864 bytes'),
  })
})
