import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import { renderGraphiQL } from '@graphql-yoga/render-graphiql'
import { csrfHeader } from './endpoint.ts'
import { exampleTabs } from './graphiql-examples.ts'
import { prefillFromHash } from './graphiql-prefill.ts'

const compress = { br: promisify(brotliCompress), gzip: promisify(gzip) }
/** The page talks to this server alone, and no other page may frame it. Its scripts are inline, and its editors run in workers made of blobs. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'unsafe-inline' blob:",
  'worker-src blob:',
  "style-src 'unsafe-inline'",
  'img-src data:',
  'font-src data:',
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

export function asksForPage({ method, headers }: IncomingMessage): boolean {
  return (method === 'GET' || method === 'HEAD') && (headers.accept ?? '').includes('text/html')
}

/** GraphiQL in one page of 9 MB that loads nothing else: made and compressed once, and kept by the browser until it changes. It holds no data. */
export async function answerWithPage(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const accepted = request.headers['accept-encoding']?.toString() ?? ''
  const encoding = accepted.includes('br') ? 'br' : accepted.includes('gzip') ? 'gzip' : 'identity'
  const page = await pages[encoding]()
  const headers = {
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'no-cache',
    'content-security-policy': contentSecurityPolicy,
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    vary: 'accept-encoding',
    etag: page.etag,
    ...(encoding !== 'identity' && { 'content-encoding': encoding }),
  }
  if (request.headers['if-none-match'] === page.etag) return void response.writeHead(304, headers).end()
  response.writeHead(200, { ...headers, 'content-length': page.body.length })
  response.end(request.method === 'HEAD' ? undefined : page.body)
}

const html = once(async () => Buffer.from(renderPage()))
const pages = {
  identity: once(async () => entityOf(await html())),
  gzip: once(async () => entityOf(await compress.gzip(await html()))),
  br: once(async () => entityOf(await compress.br(await html(), { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } }))),
}

function entityOf(body: Buffer) {
  return { body, etag: `"${createHash('sha256').update(body).digest('base64url')}"` }
}

function renderPage(): string {
  const options = {
    title: 'Portolan',
    defaultTabs: exampleTabs,
    defaultHeaders: exampleTabs[0]?.headers ?? '',
    defaultEditorToolsVisibility: 'headers' as const,
    // The browser forgets the token with the tab.
    shouldPersistHeaders: false,
    additionalHeaders: { [csrfHeader]: '1' },
  }
  const page = renderGraphiQL(options)
  // The page's last script calls `renderYogaGraphiQL(root, options)`; ours puts the token from the address into the options first.
  const call = 'YogaGraphiQL.renderYogaGraphiQL('
  const at = page.lastIndexOf(call)
  if (at < 0) throw new Error('The GraphiQL page has another form than expected; is @graphql-yoga/render-graphiql another version?')
  const end = page.lastIndexOf('</script>')
  return `${page.slice(0, at)}(${prefillFromHash})(${JSON.stringify(options)}).then((options) =>
    YogaGraphiQL.renderYogaGraphiQL(window.document.querySelector('#root'), options))${page.slice(end)}`
}

function once<Result>(make: () => Promise<Result>): () => Promise<Result> {
  let made: Promise<Result> | undefined
  return () => (made ??= make())
}
