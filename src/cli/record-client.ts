import { createHash, randomBytes } from 'node:crypto'
import type { Endpoint } from '../plugin-sdk/index.ts'

export interface RecordClient {
  /** Records whose durability the guest acknowledged so far. */
  acknowledged(): number
  /** From now on talks to the guest's copy at this endpoint. */
  moveTo(endpoint: Endpoint): void
  /** Ends the writing; waits for the request that is under way. */
  stop(): Promise<void>
  /** Asks the guest for every acknowledged record, re-read from its disk. @returns how many are there, intact, and with the acknowledged content. */
  count(): Promise<number>
}

const bodyBytes = 2048
const answerWithinMs = 5_000
/** The guest answers at most so many records to one request. */
const pageRecords = 5_000

/** An ordinary client of the workload in the guest: posts records one after the other, with a pause in between, and keeps every acknowledgement. */
export function startRecordClient(first: Endpoint, pauseMs = 100): RecordClient {
  let endpoint = first
  const stopping = new AbortController()
  const acknowledgements = new Map<number, string>()
  /** Acknowledged, and not there any more: the guest gave their numbers to others, or had stored something else. */
  let lost = 0
  const url = (path: string) => `http://${endpoint.host}:${endpoint.port}${path}`

  async function post() {
    const body = randomBytes(bodyBytes)
    const response = await fetch(url('/records'), { method: 'POST', body, signal: AbortSignal.timeout(answerWithinMs) })
    if (response.status >= 300) throw new Error(`The workload answered ${response.status}.`)
    const { number, sha256 } = (await response.json()) as { number: number; sha256: string }
    const isWhatWasSent = sha256 === createHash('sha256').update(body).digest('hex')
    if (acknowledgements.has(number) || !isWhatWasSent) lost++
    if (isWhatWasSent) acknowledgements.set(number, sha256)
  }

  const writing = (async () => {
    while (!stopping.signal.aborted) {
      // A request without an answer acknowledges nothing: while the VM moves that is expected, and the next one tells.
      await post().catch(() => undefined)
      await new Promise((done) => setTimeout(done, pauseMs))
    }
  })()

  return {
    acknowledged: () => acknowledgements.size + lost,
    moveTo(next) {
      endpoint = next
    },
    async stop() {
      stopping.abort()
      await writing
    },
    async count() {
      const newest = Math.max(0, ...acknowledgements.keys())
      let found = 0
      for (let from = 1; from <= newest; from += pageRecords) {
        const response = await fetch(url(`/records?from=${from}&to=${Math.min(newest, from + pageRecords - 1)}`), {
          signal: AbortSignal.timeout(120_000),
        })
        const { records } = (await response.json()) as { records: ({ number: number; sha256: string; intact: boolean } | null)[] }
        found += records.filter((record) => record?.intact && acknowledgements.get(record.number) === record.sha256).length
      }
      return found
    },
  }
}
