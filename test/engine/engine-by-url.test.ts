import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { startEmbeddedServer } from '../../src/engine/embedded-server.ts'
import { openEngine } from '../../src/engine/engine.ts'
import { ensureRequestIdentity } from '../../src/engine/request-identity.ts'

/** A Restate server that is nobody's child here: the control plane knows its URLs and its public key only. */
let directory: string
let server: Awaited<ReturnType<typeof startEmbeddedServer>>
let identityKey: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-engine-url-'))
  const identityKeyPath = join(directory, 'identity.pem')
  identityKey = await ensureRequestIdentity(identityKeyPath)
  server = await startEmbeddedServer({ directory: join(directory, 'journal'), identityKeyPath, log: () => {}, onReady: async () => {} })
})
afterEach(async () => {
  await server.stop()
  await rm(directory, { recursive: true, force: true })
})

async function openByUrl(identityKeys: string[], ran: string[], override: { ingressUrl?: string } = {}) {
  const { ingressUrl, adminUrl } = { ...(await server.addresses(AbortSignal.timeout(10_000))), ...override }
  const done = Promise.withResolvers<void>()
  const engine = await openEngine({
    location: { ingressUrl, adminUrl, serviceHost: '127.0.0.1', servicePort: 0, identityKeys },
    dataDirectory: directory,
    workflows: [
      {
        name: 'ByUrl',
        async run(id, steps) {
          await steps.run('one', async () => void ran.push(id))
          done.resolve()
        },
      },
    ],
    log: () => {},
  })
  return { engine, done: done.promise }
}

test('a Restate server that is known by its URL runs workflows, each id once', async () => {
  const ran: string[] = []
  const { engine, done } = await openByUrl([identityKey], ran)
  expect(engine.processId).toBeNull()
  expect(await engine.healthy(AbortSignal.timeout(5_000))).toBe(true)
  await engine.submit('ByUrl', 'a', AbortSignal.timeout(10_000))
  await engine.submit('ByUrl', 'a', AbortSignal.timeout(10_000))
  await done
  expect(ran).toEqual(['a'])
  await engine.close()
})

test('without its public key nothing is opened: unsigned requests must never be taken', async () => {
  await expect(openByUrl([], [])).rejects.toThrow('identityKeys')
})

test('handing over a workflow ends with its signal where the ingress takes the request and never answers', async () => {
  const silent = createServer().listen(0, '127.0.0.1')
  await once(silent, 'listening')
  onTestFinished(() => silent.close().closeAllConnections())
  const { port } = silent.address() as AddressInfo
  const { engine } = await openByUrl([identityKey], [], { ingressUrl: `http://127.0.0.1:${port}` })
  const cancel = new AbortController()
  const submitted = Promise.allSettled([engine.submit('ByUrl', 'a', cancel.signal)])
  await once(silent, 'request')
  cancel.abort()
  expect(await submitted).toMatchObject([{ status: 'rejected', reason: { name: 'AbortError' } }])
  await engine.close()
})
