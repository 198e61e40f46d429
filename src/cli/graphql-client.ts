/** A failure that the API answered, with what it said to do. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
}

export interface GraphqlClient {
  /** Runs a query or mutation. @throws ApiError with the server's sentence. */
  run<Data>(document: string, variables?: Record<string, unknown>): Promise<Data>
  /** Subscribes over SSE; redials when the connection breaks (the first event is always the present state, so nothing is merged). */
  subscribe<Data>(document: string, variables: Record<string, unknown>, signal: AbortSignal): AsyncGenerator<Data>
}

/** The whole client: what any other client of the API would do, with fetch. */
export function createGraphqlClient(url: string, token: string): GraphqlClient {
  const post = (document: string, variables: Record<string, unknown>, accept: string, signal?: AbortSignal) =>
    fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept, authorization: `Bearer ${token}`, 'x-graphql-yoga-csrf': '1' },
      body: JSON.stringify({ query: document, variables }),
      ...(signal && { signal }),
    })

  return {
    async run<Data>(document: string, variables: Record<string, unknown> = {}) {
      const response = await post(document, variables, 'application/json')
      return unwrap<Data>((await response.json()) as Answer<Data>)
    },
    async *subscribe<Data>(document: string, variables: Record<string, unknown>, signal: AbortSignal) {
      while (!signal.aborted) {
        try {
          const response = await post(document, variables, 'text/event-stream', signal)
          for await (const event of serverSentEvents(response)) {
            if (event.name === 'complete') return
            yield unwrap<Data>(JSON.parse(event.data) as Answer<Data>)
          }
        } catch (error) {
          if (signal.aborted || error instanceof ApiError) throw error
        }
        await new Promise((done) => setTimeout(done, 500))
      }
    },
  }
}

interface Answer<Data> {
  data?: Data
  errors?: { message: string }[]
}

function unwrap<Data>(answer: Answer<Data>): Data {
  if (answer.errors?.length || answer.data === undefined)
    throw new ApiError(answer.errors?.map((error) => error.message).join('; ') ?? 'The API answered without data.')
  return answer.data
}

async function* serverSentEvents(response: Response): AsyncGenerator<{ name: string; data: string }> {
  if (!response.ok || response.body === null) throw new ApiError(`The API answered ${response.status}: ${await response.text()}`)
  let buffered = ''
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    buffered += chunk
    for (let end = buffered.indexOf('\n\n'); end >= 0; end = buffered.indexOf('\n\n')) {
      const lines = buffered.slice(0, end).split('\n')
      buffered = buffered.slice(end + 2)
      const field = (name: string) =>
        lines
          .find((line) => line.startsWith(`${name}:`))
          ?.slice(name.length + 1)
          .trim()
      const name = field('event') ?? 'next'
      if (name === 'complete' || field('data')) yield { name, data: field('data') ?? '' }
    }
  }
}
