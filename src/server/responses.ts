import type { ServerResponse } from 'node:http'

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
