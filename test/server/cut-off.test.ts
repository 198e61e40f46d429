import { once } from 'node:events'
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { cutOff } from '../../src/server/responses.ts'

/** What a client gets of a request that was cut off once it was wholly here, and is answered a little later. */
async function answered(answer: (response: ServerResponse) => void): Promise<string> {
  const server = createServer((request, response) => {
    request.resume().once('end', () => {
      cutOff(request, response)
      setTimeout(() => answer(response), 50)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const request = get(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { agent: false })
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    return await Promise.race([text(response), delay(2_000, 'it goes on')])
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

test('a request that was cut off may still be answered in one go, and its answer does not become a stream', async () => {
  expect(await answered((response) => response.end('done'))).toBe('done')
  await expect(answered((response) => response.writeHead(200).write('first event'))).rejects.toThrow(/aborted/)
})
