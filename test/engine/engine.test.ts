import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { connect as connectHttp2 } from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { DurableWorkflow } from '../../src/engine/durable-workflow.ts'
import type { EngineLog } from '../../src/engine/engine-log.ts'
import { openEngine, type Engine } from '../../src/engine/engine.ts'
import { openServiceEndpoint } from '../../src/engine/service-endpoint.ts'
import { until } from '../support/until.ts'

let dataDirectory: string
const opened: Engine[] = []
const log = vi.fn<EngineLog>()

async function open(...workflows: DurableWorkflow[]): Promise<Engine> {
  const engine = await openEngine({ location: 'embedded', dataDirectory, workflows, log })
  opened.push(engine)
  return engine
}

async function close(engine: Engine): Promise<void> {
  opened.splice(opened.indexOf(engine), 1)
  await engine.close()
}

beforeEach(async () => {
  dataDirectory = await mkdtemp(join(tmpdir(), 'portolan-engine-'))
})
afterEach(async () => {
  await Promise.all(opened.splice(0).map((engine) => engine.close()))
  await rm(dataDirectory, { recursive: true, force: true })
})

/** The signal reaches each thread in its own time; one that it has not reached yet still takes a step's result. */
async function stop(processId: number): Promise<void> {
  process.kill(processId, 'SIGSTOP')
  const threads = `/proc/${processId}/task`
  const states = async () => Promise.all((await readdir(threads)).map((id) => readFile(join(threads, id, 'status'), 'utf8')))
  await until(states, (read) => read.every((status) => /^State:\tT/m.test(status)), 30_000)
}

const anyTime = () => AbortSignal.timeout(30_000)

describe('the embedded engine', () => {
  test('runs a workflow once for an id, each step once', async () => {
    const ran: string[] = []
    const done = Promise.withResolvers<void>()
    const engine = await open({
      name: 'Count',
      async run(id, steps) {
        const one = await steps.run('one', async () => ran.push(`${id} one`))
        await steps.run('two', async () => ran.push(`${id} two after ${one}`))
        done.resolve()
      },
    })
    await engine.submit('Count', 'a', anyTime())
    await engine.submit('Count', 'a', anyTime())
    await done.promise
    expect(ran).toEqual(['a one', 'a two after 1'])
  })

  test('goes on where it was after the engine was killed', async () => {
    const ran: string[] = []
    const atTwo = Promise.withResolvers<void>()
    const mayEnd = Promise.withResolvers<void>()
    const done = Promise.withResolvers<void>()
    const engine = await open({
      name: 'Survive',
      async run(_id, steps) {
        await steps.run('one', async () => void ran.push('one'))
        await steps.run('two', async () => {
          ran.push('two')
          atTwo.resolve()
          await mayEnd.promise
        })
        done.resolve()
      },
    })
    await engine.submit('Survive', 'a', anyTime())
    await atTwo.promise
    process.kill(engine.processId!, 'SIGKILL')
    mayEnd.resolve()
    await done.promise
    expect(ran.filter((step) => step === 'one')).toHaveLength(1)
  })

  test('goes on where it was after the engine stood still', { timeout: 240_000 }, async () => {
    const ran: string[] = []
    const atTwo = Promise.withResolvers<void>()
    const mayEnd = Promise.withResolvers<void>()
    const done = Promise.withResolvers<void>()
    const engine = await open({
      name: 'StandStill',
      async run(_id, steps) {
        await steps.run('one', async () => void ran.push('one'))
        await steps.run('two', async () => {
          atTwo.resolve()
          await mayEnd.promise
        })
        done.resolve()
      },
    })
    await engine.submit('StandStill', 'a', anyTime())
    await atTwo.promise
    await stop(engine.processId!)
    mayEnd.resolve()
    await done.promise
    expect(ran).toEqual(['one'])
    expect(log).toHaveBeenCalledWith('warn', expect.stringContaining('stood still'))
  })

  test('goes on after control plane and engine were stopped and started again, on another service port', async () => {
    const started = Promise.withResolvers<void>()
    const first = await open({
      name: 'Restart',
      async run(_id, steps) {
        await steps.run('one', async () => 'remembered')
        await steps.run('two', async () => {
          started.resolve()
          throw new Error('not yet')
        })
      },
    })
    await first.submit('Restart', 'a', anyTime())
    await started.promise
    await close(first)
    const answer = Promise.withResolvers<string>()
    const second = await open({
      name: 'Restart',
      async run(_id, steps) {
        const one = await steps.run('one', async () => 'run again')
        await steps.run('two', async () => answer.resolve(one))
      },
    })
    expect(await answer.promise).toBe('remembered')
    expect(second.id).toBe(first.id)
  })

  test('says which directory is in use when a second control plane starts on it', async () => {
    await open({ name: 'Lock', async run() {} })
    await expect(openEngine({ location: 'embedded', dataDirectory, workflows: [], log })).rejects.toThrow(
      /Another control plane may be using/,
    )
  })

  test('keeps its request key to its user', async () => {
    await open({ name: 'Key', async run() {} })
    const { mode } = await stat(join(dataDirectory, 'engine', 'request-identity.pem'))
    expect(mode & 0o777).toBe(0o600)
  })
})

test('the service refuses requests that its engine did not sign', async () => {
  let ran = false
  const endpoint = await openServiceEndpoint({
    workflows: [{ name: 'Guarded', run: async () => void (ran = true) }],
    identityKeys: ['publickeyv1_w7YHemBctH5Ck2nQRQ47iBBqhNHy4FV7t2Usbye2A6f'],
    host: '127.0.0.1',
    port: 0,
    log,
  })
  const client = connectHttp2(`http://127.0.0.1:${endpoint.port}`)
  const status = await new Promise<unknown>((resolve, reject) => {
    const request = client.request({
      ':method': 'POST',
      ':path': '/invoke/Guarded/run',
      'content-type': 'application/vnd.restate.invocation.v5',
    })
    request.on('response', (headers) => resolve(headers[':status']))
    request.on('error', reject)
    request.end()
  })
  client.close()
  await endpoint.close()
  expect(status).toBe(401)
  expect(ran).toBe(false)
})
