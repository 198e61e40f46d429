import type { IncomingMessage } from 'node:http'

export const endpoint = '/graphql'
/** A request without a JSON body (such as a subscription by GET) must carry it, so that no foreign page can send it. Its value does not matter. */
export const csrfHeader = 'x-graphql-yoga-csrf'

/** The path that a request asks for, or null where what it asks for has none, such as `//`. */
export function pathOf(request: IncomingMessage): string | null {
  return URL.parse(request.url ?? '/', 'http://localhost')?.pathname ?? null
}
