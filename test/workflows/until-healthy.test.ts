import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { PhaseContext } from '../../src/workflows/phase.ts'
import { untilHealthy } from '../../src/workflows/until-healthy.ts'

/** A service in a guest that is only coming up: what each question gets, in the order in which they come; the last one stays. */
let answers: ('NOTHING' | number)[]
let location: string
let open: ServerResponse[]
const server = createServer((_, response) => {
  const answer = answers.length > 1 ? answers.shift()! : answers[0]!
  if (answer === 'NOTHING') return void open.push(response)
  response.writeHead(answer, answer >= 300 && answer < 400 ? { location } : {}).end()
})
let port: number

beforeEach(async () => {
  open = []
  await once(server.listen(0, '127.0.0.1'), 'listening')
  port = (server.address() as AddressInfo).port
})
afterEach(async () => {
  server.closeAllConnections()
  await new Promise((closed) => server.close(closed))
})

const context = {
  settings: { timings: { healthPollMs: 5 } },
  destination: async () => ({ network: { reachability: async () => ({ fromControlPlane: { host: '127.0.0.1', port } }) } }),
} as unknown as PhaseContext
const check = { kind: 'HTTP', port: 80, path: '/', timeoutMs: 4_000 } as const

test('a question that nobody answers holds up no other: the first good answer counts, and what is still asked is dropped', async () => {
  answers = ['NOTHING', 503, 'NOTHING', 200]
  const askedAt = await untilHealthy(context, 'vm', check, AbortSignal.timeout(4_000))
  expect(askedAt).toBeLessThanOrEqual(Date.now())
  expect(open).toHaveLength(2)
  for (const response of open) if (!response.closed) await once(response, 'close')
})

test('of a service that never answers no more than ten questions are open at once, and the error says what the last one met', async () => {
  answers = ['NOTHING']
  await expect(untilHealthy(context, 'vm', { ...check, timeoutMs: 300 }, AbortSignal.timeout(4_000))).rejects.toMatchObject({
    code: 'HEALTH_CHECK_FAILED',
    message: expect.stringContaining('nothing answered'),
  })
  expect(open).toHaveLength(10)
})

test('it ends with the reason of whoever ends it', async () => {
  answers = ['NOTHING']
  const cancelled = new AbortController()
  const waiting = untilHealthy(context, 'vm', check, cancelled.signal)
  cancelled.abort(new Error('cancelled by its operator'))
  await expect(waiting).rejects.toThrow('cancelled by its operator')
})

test('any status from 200 to 299 passes', async () => {
  answers = [204]
  await untilHealthy(context, 'vm', check, AbortSignal.timeout(4_000))
})

test('a redirect does not pass, and the error says where it points, without what would steer a terminal or fill a page', async () => {
  answers = [302]
  location = `https://elsewhere.example/\x9b2J${'x'.repeat(5_000)}`
  const refused = await untilHealthy(context, 'vm', { ...check, timeoutMs: 300 }, AbortSignal.timeout(4_000)).catch(String)
  expect(refused).toMatch(
    /: it answered with status 302, which points to "https:\/\/elsewhere\.example\/ 2Jx+" and is not followed\. The source/,
  )
  expect(String(refused).length).toBeLessThan(500)
})
