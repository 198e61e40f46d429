import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { runTool } from '../../../plugins/qemu/run-tool.ts'

let cwd: string
beforeEach(async () => void (cwd = await mkdtemp(join(tmpdir(), 'portolan-tool-'))))
afterEach(() => rm(cwd, { recursive: true }))

const tool = (refusals: number) =>
  runTool('sh', ['-c', `echo >>tries; [ $(wc -l <tries) -gt ${refusals} ] || { echo 'Failed to get shared "resize" lock' >&2; exit 1; }`], {
    cwd,
    timeoutMs: 5_000,
  })

test('an image that a tool of a killed plugin still holds is waited for', async () => {
  await tool(3)
})

test('one that stays locked is an error, which may be tried again', async () => {
  await expect(tool(1_000)).rejects.toMatchObject({ code: 'INTERNAL', retryable: true, message: expect.stringContaining('lock') })
})

test('a tool that fails otherwise is not started twice', async () => {
  await writeFile(join(cwd, 'tries'), '')
  await expect(runTool('sh', ['-c', 'echo >>tries; [ $(wc -l <tries) -gt 1 ]'], { cwd, timeoutMs: 5_000 })).rejects.toMatchObject({
    code: 'INTERNAL',
  })
})
