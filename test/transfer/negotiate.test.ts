import { describe, expect, test } from 'vitest'
import { negotiate, transferHello } from '../../src/transfer/negotiate.ts'

const source = transferHello('m-1', 'SOURCE')
const destination = transferHello('m-1', 'DESTINATION')

describe('two agents that meet', () => {
  test('use the lower minor version, and what both can unpack', () => {
    expect(negotiate(source, { ...destination, protocol: { major: 1, minor: 9 } })).toEqual({ minor: 1, compression: 'zstd' })
    expect(negotiate(source, { ...destination, protocol: { major: 1, minor: 0 }, compression: [] })).toEqual({
      minor: 0,
      compression: null,
    })
  })

  test('part over another major version, with both named', () => {
    expect(() => negotiate(source, { ...destination, protocol: { major: 2, minor: 0 } })).toThrow(/protocol 1 here, 2 there/)
  })

  test.each([
    ['block size', { blockBytes: 4096 }],
    ['digest', { digest: 'md5' }],
  ])('part over another %s', (_, difference) => {
    expect(() => negotiate(source, { ...destination, ...difference })).toThrowError(expect.objectContaining({ code: 'INCOMPATIBLE' }))
  })

  test.each([
    ['another migration', { migrationId: 'm-2' }],
    ['the same role', { role: 'SOURCE' }],
  ])('refuse one of %s', (_, difference) => {
    expect(() => negotiate(source, { ...destination, ...difference })).toThrowError(expect.objectContaining({ code: 'PEER_REFUSED' }))
  })

  test('take nothing malformed', () => {
    for (const member of Object.keys(destination)) {
      expect(() => negotiate(source, { ...destination, [member]: null }), member).toThrowError(
        expect.objectContaining({ code: 'PROTOCOL' }),
      )
    }
  })
})
