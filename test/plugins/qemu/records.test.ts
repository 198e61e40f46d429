import { mkdtemp, open as openFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { syncPath } from '../../../plugins/qemu/durable-file.ts'
import { openRecords } from '../../../plugins/qemu/records.ts'

vi.mock('../../../plugins/qemu/durable-file.ts', { spy: true })
vi.mock('node:fs/promises', { spy: true })

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-records-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const open = () => openRecords(join(directory, 'records'))
const record = (key: string, content: Record<string, string | number> = { attempt: 1 }) => ({
  key,
  writtenAt: '2026-11-22T14:00:00.000Z',
  content,
})

test('a record is found again by another connection, by the start of its key', async () => {
  const records = await open()
  for (const key of ['migration/b/committed', 'migration/a/started', 'other']) await records.put({ operationId: key, record: record(key) })
  const found = await (await open()).list({ keyPrefix: 'migration/' })
  expect(found.map(({ key }) => key)).toEqual(['migration/a/started', 'migration/b/committed'])
  expect(found[0]).toEqual(record('migration/a/started'))
})

test('the same again is a no-op, and other content is a conflict that changes nothing', async () => {
  const records = await open()
  await records.put({ operationId: '1', record: record('k') })
  await records.put({ operationId: '1', record: record('k') })
  await records.put({ operationId: '2', record: { ...record('k'), writtenAt: '2026-11-22T15:00:00.000Z' } })
  await expect(records.put({ operationId: '3', record: record('k', { attempt: 2 }) })).rejects.toMatchObject({ code: 'CONFLICT' })
  expect(await records.list({ keyPrefix: '' })).toEqual([record('k')])
})

test('a refusal tells only of what a power cut can not take back: whoever wrote it may have been killed before he had it flushed', async () => {
  const records = await open()
  await records.put({ operationId: '1', record: record('k') })
  vi.mocked(syncPath).mockClear()
  await expect(records.put({ operationId: '2', record: record('k', { attempt: 2 }) })).rejects.toMatchObject({ code: 'CONFLICT' })
  expect(vi.mocked(syncPath).mock.calls).toEqual([[join(directory, 'records')]])
})

test('on a full disk what is there already can be said again, durably, or refused; and nothing new is taken', async () => {
  const records = await open()
  await records.put({ operationId: '1', record: record('k') })
  vi.mocked(syncPath).mockClear()
  const actual = await vi.importActual<typeof import('node:fs/promises')>('node:fs/promises')
  vi.mocked(openFile).mockImplementation(async (path, flags, mode) => {
    if (flags === 'w') throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' })
    return actual.open(path, flags, mode)
  })
  try {
    await records.put({ operationId: '2', record: record('k') })
    expect(vi.mocked(syncPath).mock.calls).toEqual([[join(directory, 'records')]])
    await expect(records.put({ operationId: '3', record: record('k', { attempt: 2 }) })).rejects.toMatchObject({ code: 'CONFLICT' })
    await expect(records.put({ operationId: '4', record: record('new') })).rejects.toMatchObject({ code: 'INSUFFICIENT_CAPACITY' })
  } finally {
    vi.mocked(openFile).mockRestore()
  }
  expect(await records.list({ keyPrefix: '' })).toEqual([record('k')])
})

test.each(['..', '.', '../../etc/passwd', '/etc/passwd', 'a\0b', 'a\nb', '🚢', '%2e%2e', '.hidden.partial'])(
  'the key %j is no path',
  async (key) => {
    const records = await open()
    await records.put({ operationId: '1', record: record(key) })
    expect(await records.list({ keyPrefix: key })).toEqual([record(key)])
    expect(await readdir(directory)).toEqual(['records'])
    expect(await readdir(join(directory, 'records'))).toHaveLength(1)
  },
)

test.each(['', 'k'.repeat(300), '\ud800'])('the key %j is refused', async (key) => {
  const records = await open()
  await expect(records.put({ operationId: '1', record: record(key) })).rejects.toMatchObject({ code: 'UNSUPPORTED' })
})

test('what a put left that was cut short once its record was there goes with its repetition', async () => {
  const records = await open()
  vi.mocked(rm).mockImplementationOnce(async () => {})
  await records.put({ operationId: '1', record: record('k') })
  expect(await readdir(join(directory, 'records'))).toHaveLength(2)
  await records.put({ operationId: '1', record: record('k') })
  expect(await readdir(join(directory, 'records'))).toEqual(['k.json'])
})

test('what an interrupted put left is not a record', async () => {
  const records = await open()
  await writeFile(join(directory, 'records', '.abc.partial'), '{"key":"half')
  expect(await records.list({ keyPrefix: '' })).toEqual([])
})
