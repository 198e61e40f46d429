import type { IncomingMessage, ServerResponse } from 'node:http'

/** How often an answer is looked at that may yet become a stream. */
const becomesStreamMs = 100

export function say(response: ServerResponse, status: number, sentence: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' }).end(`${sentence}\n`)
}

/** 401 in the form that GraphQL clients read. */
export function refuse(response: ServerResponse): void {
  const message =
    'This needs a token: send the header `Authorization: Bearer <token>`. The first token was shown when Portolan first started.'
  response
    .writeHead(401, { 'content-type': 'application/json', 'www-authenticate': 'Bearer', 'cache-control': 'no-store' })
    .end(JSON.stringify({ errors: [{ message, extensions: { code: 'UNAUTHENTICATED' } }] }))
}

/** Whether its body has begun and not ended: of what this server answers, subscriptions only (the rest is written in one go). */
export function isStream(response: ServerResponse): boolean {
  return response.headersSent && !response.writableEnded
}

/**
 * For a request that may no longer be carried out: one that is not wholly here yet and a stream are cut off, with their connection, and so is an answer that becomes a stream. What is
 * answered in one go ends by itself. Not by the response: one behind another on its connection can't be ended before that one is.
 */
export function cutOff(request: IncomingMessage, response: ServerResponse): void {
  if (response.writableEnded || request.socket.destroyed) return
  if (!request.complete || isStream(response)) request.socket.destroy()
  else setTimeout(() => cutOff(request, response), becomesStreamMs).unref()
}
