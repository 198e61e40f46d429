import { mkdtemp, rm } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { brotliDecompressSync } from 'node:zlib'
import { eq } from 'drizzle-orm'
import { chromium, type BrowserContext, type Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { artifacts } from '../../setup/artifacts.ts'
import { migrations } from '../../src/database/tables/migration.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { idOf, seed } from './seed.ts'

// Chromium shares the machine with whatever else is tested.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 })

const patience = { timeout: 60_000, interval: 100 }
let api: ApiUnderTest
let operator: string
let profile: string
let browser: BrowserContext
let page: Page
const requested: string[] = []
const complaints: string[] = []

beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  operator = await api.tokenOf('OPERATOR')
  profile = await mkdtemp(join(tmpdir(), 'portolan-chromium-'))
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: artifacts().browser.executablePath,
    env: { ...process.env, ...artifacts().browser.environment },
    headless: true,
    viewport: { width: 1400, height: 900 },
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
})
beforeEach(async () => {
  await page?.close()
  page = await browser.newPage()
  page.on('request', (request) => requested.push(request.url()))
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()))
  page.on('pageerror', (error) => complaints.push(error.message))
})
afterAll(async () => {
  await browser?.close()
  await api?.stop()
  await rm(profile, { recursive: true, force: true })
})

const play = () => page.getByRole('button', { name: 'Execute query' })
/** Tabs slide into their places at first, so that a click may miss. */
async function openTab(name: string) {
  await vi.waitFor(async () => {
    await page.locator('.graphiql-tab-button', { hasText: name }).click()
    expect(await page.getByRole('tab', { name, selected: true }).count()).toBe(1)
  }, patience)
  // GraphiQL learns which operation the tab holds a moment after it shows it, and says so nowhere; a person's click comes later than that.
  await page.waitForTimeout(2_000)
}
/** The editor shows each space as one that does not break, and only the lines that fit. */
const textOf = async (selector: string) => (await page.locator(selector).innerText()).replaceAll('\u00a0', ' ')
const shown = () => textOf('.result-window')
const variables = () => textOf('.graphiql-editor-tool')

test('the page is compressed, kept by the browser until it changes, and holds no data', async () => {
  const accept = { accept: 'text/html', 'accept-encoding': 'br' }
  const first = await rawGet(api.url, accept)
  expect(first.headers['content-encoding']).toBe('br')
  expect(first.body.length).toBeLessThan(3_500_000)
  expect(brotliDecompressSync(first.body).toString()).not.toContain('vm-001')
  const again = await rawGet(api.url, { ...accept, 'if-none-match': first.headers.etag! })
  expect([again.status, again.body.length]).toEqual([304, 0])
  expect((await rawGet(api.url, { accept: 'text/html' })).headers['content-encoding']).toBeUndefined()
})

test('by hand: a token put under Headers, and the first tab run by a click', async () => {
  await page.goto(api.url)
  await play().click()
  await vi.waitFor(async () => expect(await shown()).toContain('This needs a token'), patience)
  await page.locator('.graphiql-editor-tool .view-lines').last().click()
  await page.keyboard.press('Control+A')
  await page.keyboard.insertText(JSON.stringify({ Authorization: `Bearer ${operator}` }))
  // The editor closed quotes and brackets by itself.
  await page.keyboard.press('Control+Shift+End')
  await page.keyboard.press('Delete')
  await play().click()
  await vi.waitFor(async () => expect(await shown()).toMatch(/"role": "OPERATOR"[^]*"name": "east"/), patience)
  expect(await page.evaluate('JSON.stringify({ ...localStorage })')).not.toContain(operator)
})

test('by a link with a token: query, mutation and subscription each run by clicks, with ids filled in', async () => {
  await page.goto(`${api.url}#token=${operator}`)
  await play().click()
  await vi.waitFor(async () => expect(await shown()).toContain('"tokenName": "a operator"'), patience)
  expect(page.url()).not.toContain('token')

  await openTab('StartMigration')
  await page.getByRole('button', { name: 'Variables' }).click()
  await vi.waitFor(async () => expect(await variables()).toContain(idOf('VirtualMachine', 'east/vm-1')), patience)
  await play().click()
  await vi.waitFor(async () => expect(await shown()).toMatch(/StartMigrationSuccess[^]*"phase": "SYNC"/), patience)
  expect(api.called.at(-1)).toMatchObject([
    'startMigration',
    { role: 'OPERATOR' },
    { sourceVirtualMachineId: 'east/vm-1', destinationCloudId: 'west' },
  ])

  await openTab('WatchMigration')
  await play().click()
  await vi.waitFor(async () => expect(await shown()).toContain('"bytesSent": 0'), patience)
  const sent = (values: Partial<typeof migrations.$inferInsert>) =>
    api.db.write((orm) => [orm.update(migrations).set(values).where(eq(migrations.id, 'm1'))], [{ topic: 'MIGRATION', subject: 'm1' }])
  await sent({ bytesSent: 123_456_789_012 })
  await vi.waitFor(async () => expect(await shown()).toContain('"bytesSent": 123456789012'), patience)
  await sent({ state: 'COMPLETED', endedAt: new Date() })
  await vi.waitFor(async () => expect(await shown()).toContain('"state": "COMPLETED"'), patience)
})

test('no request left this machine, and the browser had nothing to complain of', () => {
  const own = new URL(api.url).origin
  expect(requested.filter((url) => ![own, `blob:${own}`].some((start) => url.startsWith(`${start}/`)) && !url.startsWith('data:'))).toEqual(
    [],
  )
  // The one refusal is the run without a token.
  expect(complaints.filter((text) => !text.includes('401'))).toEqual([])
})

/** fetch would decompress the answer. */
async function rawGet(url: string, headers: Record<string, string>) {
  const answer = await new Promise<IncomingMessage>((answered, failed) => {
    get(url, { headers }, answered).on('error', failed)
  })
  return { status: answer.statusCode, headers: answer.headers, body: Buffer.concat(await answer.toArray()) }
}
