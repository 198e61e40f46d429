/** Records: durable at the site, one content for a key. There is no way to delete one, so each run writes under a prefix of its own. */
import { randomUUID } from 'node:crypto'
import type { SiteRecord } from '../contract.ts'
import { hostileNames, operation, type Suite, throughACrash } from './session.ts'

export function recordChecks(suite: Suite): void {
  const { describe, expect } = suite.api
  const capabilities = ['records.put', 'records.list']
  const prefix = `conformance/${randomUUID()}/`
  const record = (
    name: string,
    content: SiteRecord['content'] = { migration: name, bytes: 2 ** 40, done: true, error: null, text: 'ä\n🚚' },
  ): SiteRecord => ({
    key: `${prefix}${name}`,
    writtenAt: '2026-01-02T03:04:05.678Z',
    content,
  })

  describe('records', () => {
    suite.check(
      'come back as they were put, also after the plugin was killed before it answered',
      { capabilities },
      async ({ connection, connected }) => {
        const put = { ...operation(), record: record('one') }
        await throughACrash(suite, 'records.put', () => connection.records.put(put))
        await connected.crash.now()
        expect(await connection.records.list({ keyPrefix: put.record.key })).toEqual([put.record])
      },
    )

    suite.check(
      'with the same content are put again by any operation; with other content never',
      { capabilities },
      async ({ connection }) => {
        await connection.records.put({ ...operation(), record: record('two') })
        await connection.records.put({ ...operation(), record: record('two') })
        const other = connection.records.put({ ...operation(), record: record('two', { migration: 'another' }) })
        await expect(other).rejects.toMatchObject({ code: 'CONFLICT', retryable: false })
        expect(await connection.records.list({ keyPrefix: `${prefix}two` })).toEqual([record('two')])
      },
    )

    suite.check('are listed by the beginning of their key, taken literally', { capabilities }, async ({ connection }) => {
      for (const name of ['list/a', 'list/b', 'listed', 'l%']) await connection.records.put({ ...operation(), record: record(name) })
      const keys = async (keyPrefix: string) =>
        (await connection.records.list({ keyPrefix: `${prefix}${keyPrefix}` })).map(({ key }) => key.slice(prefix.length)).toSorted()
      expect(await keys('list/')).toEqual(['list/a', 'list/b'])
      expect(await keys('l%')).toEqual(['l%'])
      expect(await keys('none')).toEqual([])
    })

    suite.check('with hostile keys come back or are refused with a typed error', { capabilities }, async ({ connection }) => {
      for (const name of hostileNames) {
        const hostile = record(name)
        const refusal = await connection.records.put({ ...operation(), record: hostile }).then(
          () => null,
          (error: unknown) => error,
        )
        if (refusal !== null) expect(refusal, name).toMatchObject({ code: expect.stringMatching(/^(INVALID_OPTIONS|UNSUPPORTED)$/) })
        expect(await connection.records.list({ keyPrefix: hostile.key }), name).toEqual(refusal === null ? [hostile] : [])
      }
    })

    suite.check('put at the same time by two operations keep one content', { capabilities }, async ({ connection }) => {
      const contents = [{ winner: 1 }, { winner: 2 }, { winner: 3 }]
      const outcomes = await Promise.allSettled(
        contents.map((content) => connection.records.put({ ...operation(), record: record('race', content) })),
      )
      expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      for (const outcome of outcomes) if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'CONFLICT' })
      expect(await connection.records.list({ keyPrefix: `${prefix}race` })).toHaveLength(1)
    })
  })
}
