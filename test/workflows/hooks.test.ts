/** Hooks around phases, with a real HTTP receiver. */
import { createHmac, randomUUID } from 'node:crypto'
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LibsqlError } from '@libsql/client'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { openDatabase, type Database } from '../../src/database/client.ts'
import { webhookSecrets } from '../../src/database/tables/webhook-secret.ts'
import type { Occupation } from '../../src/domain/phase-activity.ts'
import type { Hook } from '../../src/domain/hook.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import type { ControlRequests } from '../../src/transfer/control-protocol.ts'
import { createIdempotency } from '../../src/workflows/idempotency.ts'
import { runHooks } from '../../src/workflows/hooks.ts'
import type { PhaseContext } from '../../src/workflows/phase.ts'
import { webhookAddresses } from '../../src/workflows/webhook-addresses.ts'
import { createWebhookSecretOperations, type WebhookSecretOperations } from '../../src/workflows/webhook-secret-operations.ts'
import { createWebhooks, type Webhooks } from '../../src/workflows/webhooks.ts'
import { operator, quickTimings } from './support/migration-settings-for-tests.ts'
import { expectUndone, setMigrationStage } from './support/migration-stage.ts'

const secret = 'a secret that nobody guesses'
let directory: string
let database: Database
let operations: WebhookSecretOperations
let webhooks: Webhooks
let receiver: {
  server: Server
  url: string
  received: { headers: IncomingHttpHeaders; body: string }[]
  answer(response: ServerResponse): void
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-hooks-'))
  database = await openDatabase({ dataDirectory: directory })
  const sealKey = sealKeyOf(Buffer.alloc(32, 7))
  operations = createWebhookSecretOperations({ idempotency: createIdempotency(database, sealKey), sealKey })
  webhooks = createWebhooks({ database, sealKey, addresses: webhookAddresses(['127.0.0.0/8']) })
  await operations.setWebhookSecret(operator, { idempotencyKey: randomUUID(), name: 'team', secret })
  const received: typeof receiver.received = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      received.push({ headers: request.headers, body })
      receiver.answer(response)
    })
  })
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks`
  receiver = { server, url, received, answer: (response) => response.end('thanks') }
})
afterEach(async () => {
  receiver.server.closeAllConnections()
  await new Promise((closed) => receiver.server.close(closed))
  await database.close()
  await rm(directory, { recursive: true })
})

const webhook = (change: Partial<Hook> = {}): Hook => ({
  name: 'tell',
  phase: 'PRE_FLIGHT',
  when: 'BEFORE',
  timeoutMs: 2_000,
  retries: 0,
  onFailure: 'FAIL',
  action: { kind: 'WEBHOOK', url: receiver.url, secretName: 'team' },
  ...change,
})
const command = (argument: string, change: Partial<Hook> = {}): Hook => ({
  ...webhook({ name: 'flush', phase: 'FREEZE' }),
  action: { kind: 'COMMAND', command: [argument] },
  ...change,
})

/** A migration with these hooks, and what they said. In its guest a command ends with the number that it is. */
function hooked(...hooks: Hook[]) {
  const said: string[] = []
  const occupations: Occupation[] = []
  const agent = {
    request: async (_method: string, { command: [code], environment, hookId }: ControlRequests['hook.run'][0]) => {
      const output = `${hookId} ${Object.values(environment).join(' ')}`
      return { exitCode: Number(code), timedOut: false, output, outputBytes: output.length }
    },
  }
  const migration = {
    id: 'm1',
    attempt: 1,
    switchover: 1,
    sourceVirtualMachineId: 'east/vm',
    destinationCloudId: 'west',
    request: { hooks },
  }
  return {
    said,
    occupations,
    run(phase: Hook['phase'] = 'PRE_FLIGHT', signal = new AbortController().signal) {
      const context = {
        migration,
        signal,
        settings: { timings: quickTimings, webhooks },
        agents: async () => ({ agent: async () => agent }),
        during: (occupation: Occupation, work: () => Promise<unknown>) => {
          occupations.push(occupation)
          return work()
        },
        note: async (message: string) => void said.push(message),
      }
      return runHooks(context as unknown as PhaseContext, phase, 'BEFORE')
    },
  }
}

describe('a webhook', () => {
  test('is signed, names its migration, and comes again under the same id when its phase is repeated', async () => {
    const { run, said, occupations } = hooked(webhook())
    await run()
    await run()
    expect(occupations[0]).toEqual({ doing: 'Runs the hook tell (BEFORE PRE_FLIGHT)', waitsFor: 'its end', timeoutMs: 2_000 })
    const [first, second] = receiver.received
    const [, seconds, signature] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(first!.headers['portolan-signature']))!
    expect(signature).toBe(createHmac('sha256', secret).update(`${seconds}.${first!.body}`).digest('hex'))
    expect(JSON.parse(first!.body)).toMatchObject({
      migration: 'm1',
      phase: 'PRE_FLIGHT',
      when: 'BEFORE',
      attempt: 1,
      hook: 'tell',
      delivery: 1,
    })
    expect(first!.headers['portolan-delivery']).toBe(`m1.1.1.PRE_FLIGHT.BEFORE.tell`)
    expect(second!.headers['portolan-delivery']).toBe(first!.headers['portolan-delivery'])
    expect(said).toEqual(Array(2).fill('The hook tell (BEFORE PRE_FLIGHT) answered 200'))
  })

  test('that is redirected is not followed, and its migration fails', async () => {
    receiver.answer = (response) => response.writeHead(302, { location: '/elsewhere' }).end()
    const { run } = hooked(webhook())
    await expect(run()).rejects.toMatchObject({
      code: 'HOOK_FAILED',
      retryable: false,
      message: expect.stringContaining('redirects are not followed'),
    })
    expect(receiver.received).toHaveLength(1)
  })

  test('that hangs ends with its time-out', async () => {
    receiver.answer = () => {}
    const { run } = hooked(webhook({ timeoutMs: 50 }))
    await expect(run()).rejects.toMatchObject({ message: expect.stringContaining('did not end within 50 ms') })
  })

  test('that answers without end is cut off, and only the beginning is kept', async () => {
    receiver.answer = (response) => {
      response.writeHead(500)
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(65_536)));
        if (!response.destroyed) response.once('drain', more)
      }
      more()
    }
    const { run, said } = hooked(webhook({ onFailure: 'IGNORE' }))
    await run()
    const [message] = said
    expect(message).toContain('the migration goes on without it. It answered 500: xxx')
    expect(message!.length).toBeLessThan(2_300)
  })

  test('is tried again as often as it was asked for', async () => {
    const answers = [500, 503, 204]
    receiver.answer = (response) => response.writeHead(answers.shift()!).end()
    const { run, said } = hooked(webhook({ retries: 2 }))
    await run()
    expect(receiver.received.map(({ body }) => (JSON.parse(body) as { delivery: number }).delivery)).toEqual([1, 2, 3])
    expect(said).toHaveLength(3)
  })

  test('never fails a migration that is committed', async () => {
    receiver.answer = (response) => response.writeHead(500).end()
    const { run, said } = hooked(webhook({ phase: 'RETIRE_SOURCE' }))
    await run('RETIRE_SOURCE')
    expect(said).toEqual([expect.stringContaining('goes on without it')])
  })

  test('ends at once when its migration is cancelled', async () => {
    receiver.answer = () => {}
    const cancel = new AbortController()
    const { run } = hooked(webhook({ timeoutMs: 600_000, retries: 10, onFailure: 'IGNORE' }))
    const running = run('PRE_FLIGHT', cancel.signal)
    cancel.abort(new Error('cancelled'))
    await expect(running).rejects.toThrow('cancelled')
  })

  test('without its secret is not sent', async () => {
    await operations.deleteWebhookSecret(operator, { idempotencyKey: randomUUID(), name: 'team' })
    const { run } = hooked(webhook())
    await expect(run()).rejects.toMatchObject({ message: expect.stringContaining('no webhook secret "team"') })
    expect(receiver.received).toEqual([])
  })
})

test.each(['FAIL', 'IGNORE'] as const)(
  'a database that fails before a hook is sent is no failure of the hook: with the policy %s it is thrown as what it is',
  async (onFailure) => {
    const full = new LibsqlError('database or disk is full', 'SQLITE_FULL')
    vi.spyOn(webhooks, 'deliver').mockRejectedValue(full)
    const { run, said } = hooked(webhook({ retries: 2, onFailure }))
    await expect(run()).rejects.toBe(full)
    expect(said).toEqual([])
  },
)

describe('where webhooks may go', () => {
  const connect =
    (url: string, allow: string[] = []) =>
    () =>
      webhookAddresses(allow).requireAllowed(new URL(url))
  test.each([
    'http://169.254.169.254/latest/meta-data',
    'http://127.0.0.1:9070/',
    'http://2130706433/',
    'http://0x7f.1/',
    'http://[::1]/',
    'http://[::ffff:169.254.169.254]/',
    'http://[64:ff9b::a9fe:a9fe]/',
    'http://[fe80::1]/',
    'http://0.0.0.0/',
  ])('not to %s', (url) => {
    expect(connect(url)).toThrow('may not reach')
  })
  test('to private and public addresses, and to what the configuration allows', () => {
    for (const url of ['http://10.1.2.3/', 'https://192.0.2.1/', 'https://[2001:db8::1]/']) expect(connect(url)).not.toThrow()
    expect(connect('http://127.0.0.1/', ['127.0.0.0/8'])).not.toThrow()
  })
  test('not by a name of such an address either', async () => {
    const { lookup } = webhookAddresses([])
    const refusal = await new Promise((resolve) => lookup('localhost', {}, (error) => resolve(error)))
    expect(String(refusal)).toContain('may not reach')
  })
  test('a range that is none is refused', () => {
    expect(() => webhookAddresses(['10.0.0.0/99'])).toThrow('not an IP address or CIDR range')
  })
})

describe('a command in the guest', () => {
  test('is run by the agent, which is told what for', async () => {
    const { run, said } = hooked(command('0'))
    await run('FREEZE')
    expect(said).toEqual([expect.stringContaining(`at the end: m1.1.1.FREEZE.BEFORE.flush.1 m1 1 FREEZE BEFORE flush`)])
  })
  test('that fails ends the migration by its policy', async () => {
    const { run } = hooked(command('3'))
    await expect(run('FREEZE')).rejects.toMatchObject({ code: 'HOOK_FAILED', message: expect.stringContaining('It ended with 3.') })
    const ignored = hooked(command('3', { onFailure: 'IGNORE', retries: 1 }))
    await ignored.run('FREEZE')
    expect(ignored.said).toHaveLength(2)
  })
})

describe('the secret of webhooks', () => {
  test('is not in the database but sealed, and not in any message', async () => {
    const rows = await database.select().from(webhookSecrets)
    expect(rows).toHaveLength(1)
    expect(JSON.stringify(rows)).not.toContain(secret)
    receiver.answer = (response) => response.writeHead(500).end()
    const { run } = hooked(webhook())
    await expect(run()).rejects.toSatisfy((error) => !String(error).includes(secret))
    expect(JSON.stringify(receiver.received)).not.toContain(secret)
  })
  test.each([
    { name: '../x', secret },
    { name: 'line\nbreak', secret },
    { name: 'short', secret: 'short' },
  ])('refuses $name', async (input) => {
    await expect(operations.setWebhookSecret(operator, { idempotencyKey: randomUUID(), ...input })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    })
  })
})

describe('in a whole migration', () => {
  test('hooks come with their phases, and a failure after the commit changes nothing', async () => {
    receiver.answer = (response) => response.writeHead(receiver.received.length > 2 ? 500 : 200).end()
    const stage = await setMigrationStage({ webhooks })
    try {
      const hooks = [
        webhook({ name: 'last', phase: 'RETIRE_SOURCE', when: 'AFTER', onFailure: 'IGNORE' }),
        webhook({ name: 'second', phase: 'SUSPEND_SOURCE', when: 'AFTER' }),
        webhook({ name: 'first' }),
      ]
      const { state } = await stage.drive(stage.runner(), await stage.start({ hooks }))
      expect(state).toBe('COMPLETED')
      expect(receiver.received.map(({ body }) => (JSON.parse(body) as { hook: string }).hook)).toEqual(['first', 'second', 'last'])
    } finally {
      await stage.close()
    }
  })

  test('a test boot that is accepted while a hook runs between the last round and the cutover is ended, since there is nobody left to boot it', async () => {
    const stage = await setMigrationStage({ webhooks })
    try {
      const id = await stage.start({ hooks: [webhook({ phase: 'READY_TO_CUT_OVER', when: 'AFTER' })] })
      receiver.answer = (response) =>
        void stage.operations.testMigration(operator, { idempotencyKey: 'test', migrationId: id }).finally(() => response.end('thanks'))
      expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
      const problem = 'The cutover came before the test had ended.'
      expect(await stage.testsOf(id)).toMatchObject([{ state: 'FAILED', problem, endedAt: expect.any(Date) as Date }])
    } finally {
      await stage.close()
    }
  })

  test('a database that is full for a moment when a hook has ended well repeats its phase, and undoes nothing', async () => {
    const stage = await setMigrationStage({ webhooks })
    try {
      const { write } = stage.store
      let failures = 0
      stage.store.write = (...asked) =>
        asked[1].events?.some(({ message }) => message.includes('answered 200')) && failures++ === 0
          ? Promise.reject(new LibsqlError('database or disk is full', 'SQLITE_FULL'))
          : write(...asked)
      const runner = stage.runner()
      const id = await stage.start({ hooks: [webhook()] })
      await expect(stage.drive(runner, id)).rejects.toThrow('disk is full')
      expect(await stage.drive(runner, id)).toMatchObject({ state: 'COMPLETED' })
    } finally {
      await stage.close()
    }
  })

  test('one before the commit that never answers can be cancelled, and the source is in service again', async () => {
    const stage = await setMigrationStage({ webhooks })
    try {
      receiver.answer = () => {}
      const id = await stage.start({ hooks: [webhook({ phase: 'COMMIT', timeoutMs: 600_000, retries: 10 })] })
      const end = stage.drive(stage.runner(), id)
      await expect.poll(() => receiver.received.length, { timeout: 10_000 }).toBe(1)
      await stage.operations.cancelMigration(operator, { idempotencyKey: 'cancel', migrationId: id })
      expect(await end).toMatchObject({ state: 'CANCELLED' })
      await expectUndone(stage)
    } finally {
      await stage.close()
    }
  })

  test('one that fails before the commit, with the policy FAIL, leaves the source in service', async () => {
    const stage = await setMigrationStage({ webhooks })
    try {
      const { state, errorCode } = await stage.drive(stage.runner(), await stage.start({ hooks: [command('1')] }))
      expect({ state, errorCode }).toEqual({ state: 'FAILED', errorCode: 'HOOK_FAILED' })
      await expectUndone(stage)
    } finally {
      await stage.close()
    }
  })
})
