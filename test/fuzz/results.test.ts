/** What the control plane takes of an agent for the result of each thing that it asked: a guest can be hostile. */
import { describe, expect } from 'vitest'
import { parseAgentMessage, parseResult } from '../../src/agent-gateway/agent-messages.ts'
import type { ControlMethod, ControlRequests } from '../../src/transfer/control-protocol.ts'
import { fuzz, jsonLike, jsonTextLike, parsed } from './support/fuzz.ts'

const results: { [M in ControlMethod]: Required<ControlRequests[M][1]> } = {
  'transfer.connect': { via: 'RELAY' },
  'tracking.start': { mode: 'TRACEFS', reason: 'r' },
  'receive.start': {},
  'round.run': {
    round: 1,
    mode: 'CHANGED',
    changedBytes: 4096,
    bytesSent: 4096,
    verifiedBytes: 4096,
    durationMs: 1.5,
    pendingBytes: 0,
    estimatedTransferMs: 1,
    estimatedVerifyMs: 1,
    rescanNeeded: false,
    rateBytesPerSecond: 1e6,
    changeRateBytesPerSecond: null,
    excludedBytes: 512,
    excluded: [{ partition: 1, path: '/tmp' }],
  },
  'bandwidth.set': {},
  'round.stop': {},
  freeze: { frozen: ['/'], freezeMs: 2.5 },
  'freeze.renew': { held: true },
  thaw: { held: false },
  root: { root: 'f'.repeat(64), blocks: 1 },
  fixUp: { steps: [{ step: 's', changed: true, detail: 'd', couldNot: 'c' }] },
  interfaces: { nics: [{ mac: '52:54:00:00:00:01', name: 'eth0' }] },
  'hook.run': { exitCode: null, timedOut: true, output: 'text', outputBytes: 4 },
  exit: {},
}

/** What a guest may have sent for a member must not come back in an error: it may be a token. */
const isPlainTypeError = (error: unknown) => error instanceof TypeError && error.message.length < 500

/** Every member of a value, and of what is in it. */
function members(value: unknown): [string, unknown][] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, member]) => [[name, member] as [string, unknown], ...members(member)])
}

const namesIn = (value: unknown) => new Set(members(value).map(([name]) => name.replace(/^\d+$/, '0')))

describe('results of an agent', () => {
  for (const method of Object.keys(results) as ControlMethod[]) {
    const valid = results[method]
    const known = namesIn(valid)
    fuzz(
      `${method}: refused, or its own members in numbers that count something`,
      jsonLike(valid),
      (given) => {
        const result = parsed<unknown>(() => parseResult(method, given), isPlainTypeError)
        if (result === undefined) return
        expect(parseResult(method, result)).toEqual(result)
        expect([...namesIn(result)].filter((name) => !known.has(name))).toEqual([])
        for (const [name, member] of members(result)) {
          if (typeof member === 'number' && name !== 'exitCode') expect(member).toBeGreaterThanOrEqual(0)
          if (typeof member === 'number' && name.endsWith('Bytes')) expect(Number.isSafeInteger(member)).toBe(true)
          if (Array.isArray(member)) expect(member.length).toBeLessThanOrEqual(256)
          if (typeof member === 'string') expect(member.length).toBeLessThanOrEqual(32_768)
        }
      },
      150,
    )
    fuzz(
      `${method}: comes out of its line as it is judged alone`,
      jsonTextLike({ response: { id: '1', result: valid } }),
      (line) => {
        const message = parsed(() => parseAgentMessage(line.toString('utf8')), isPlainTypeError)
        if (!message || !('response' in message) || !('result' in message.response)) return
        const { result } = message.response
        const sent = JSON.parse(line.toString('utf8')) as { response: { result?: unknown } }
        expect(result).toEqual(sent.response.result)
        parsed<unknown>(() => parseResult(method, result), isPlainTypeError)
      },
      60,
    )
  }
})
