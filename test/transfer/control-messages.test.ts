import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isControlMethod, parseBootstrap, parseEnrolmentAnswer, parseParams, parseRequest } from '../../src/transfer/control-messages.ts'
import { TransferError } from '../../src/transfer/transfer-error.ts'

describe("the control plane's messages", () => {
  test('parameters pass as they are meant, without unknown members', () => {
    expect(parseParams('round.run', { round: 2, mode: 'CHANGED', extra: 1 })).toEqual({ round: 2, mode: 'CHANGED' })
    expect(parseParams('transfer.connect', { listenPort: 7443, timeoutMs: 10 })).toEqual({ listenPort: 7443, timeoutMs: 10 })
    expect(parseParams('root', undefined)).toEqual({})
  })

  test.each([
    ['round.run', { round: -1, mode: 'FULL' }],
    ['round.run', { round: 1, mode: 'SOME' }],
    ['freeze', { freezeId: 'f', leaseMs: 0 }],
    ['transfer.connect', { endpoints: [{ host: 'h', port: 70_000 }], timeoutMs: 1 }],
    ['fixUp', { nics: [{ mac: '52:54:00:12:34:56', name: '../../etc/passwd' }] }],
    ['fixUp', { nics: [{ mac: 'nonsense', name: 'eth0' }] }],
    ['receive.start', { disk: 'vda' }],
    ['tracking.start', { disk: 'vda', excludedDirectories: ['/var/../etc'] }],
    ['fixUp', { nics: [], empty: [{ partition: 1, path: '/var/..' }] }],
    ['fixUp', { nics: [], empty: [{ partition: 0, path: '/var/cache' }] }],
  ] as const)('%s with %j is refused', (method, params) => {
    expect(() => parseParams(method, params)).toThrowError(expect.objectContaining({ code: 'INVALID_REQUEST' }))
  })

  test('no method of Object passes for one of ours', () => {
    expect(['toString', '__proto__', 'constructor'].filter(isControlMethod)).toEqual([])
  })

  test('a refusal to enrol is final, and says why', () => {
    expect(() => parseEnrolmentAnswer({ refused: { code: 'TOKEN', message: 'the token was used' } })).toThrowError(
      expect.objectContaining({ code: 'PEER_REFUSED', retryable: false, message: expect.stringContaining('the token was used') }),
    )
  })

  test('whatever else comes is a typed error', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        for (const parse of [parseRequest, parseEnrolmentAnswer, (json: unknown) => parseBootstrap(JSON.stringify(json))]) {
          try {
            parse(value)
          } catch (error) {
            expect(error).toBeInstanceOf(TransferError)
          }
        }
      }),
    )
  })
})
