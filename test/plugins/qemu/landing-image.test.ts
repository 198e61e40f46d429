import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { keepLandingImage } from '../../../plugins/qemu/create.ts'
import { syncPath } from '../../../plugins/qemu/durable-file.ts'
import { bareLanding } from './support/bare-metal.ts'

vi.mock('../../../plugins/qemu/durable-file.ts', { spy: true })

test('a landing image that is kept is there after a power cut too: its files are flushed, and then their names', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'portolan-landing-'))
  onTestFinished(() => rm(directory, { recursive: true }))
  const image = await bareLanding(join(directory, 'artifacts'))
  const sizes: number[] = []
  vi.mocked(syncPath).mockImplementation(async (path) => {
    if (path !== join(directory, 'landing')) sizes.push((await readFile(path)).length)
  })
  await keepLandingImage(directory, image)
  expect(vi.mocked(syncPath).mock.calls).toEqual([
    [join(directory, 'landing/kernel')],
    [join(directory, 'landing/base-initrd')],
    [join(directory, 'landing')],
  ])
  // Flushed once they were whole.
  expect(sizes).toEqual([(await readFile(image.kernelPath)).length, (await readFile(image.initrdPath)).length])
})
