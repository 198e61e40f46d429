/** What libvirt says to several looks at once, cut short or complained of anywhere, and what a body that is too long for the common limit asks for. */
import * as fc from 'fast-check'
import { GraphQLError, OperationTypeNode, parse, visit } from 'graphql'
import { describe, expect } from 'vitest'
import { askTogether } from '../../plugins/libvirt/asked-together.ts'
import { onlySubmitJob } from '../../src/server/large-bodies.ts'
import { bytesLike, fuzz, parsed } from './support/fuzz.ts'

describe('looks that share one virsh', () => {
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('', '\n\n', "'; echo x", 'end-of-answer-', 'error: no\n'))
  const shared = fc.record({
    answers: fc.array(text, { minLength: 2, maxLength: 6 }),
    keptShare: fc.oneof(
      fc.constant(1),
      fc.nat(99).map((percent) => percent / 100),
    ),
    exitCode: fc.constantFrom(0, 0, 0, 1, null),
    stderr: fc.constantFrom('', '\n', 'error: lost'),
  })
  fuzz('are each answered with their own answer, whole', shared, async ({ answers, keptShare, exitCode, stderr }) => {
    const own = (of: readonly string[]) => answers[Number(of[1])]!
    const ask = askTogether(
      async (script) => {
        const [mark] = /end-of-answer-[\da-f-]+/.exec(script)!
        const places = [...script.matchAll(/'look' '(\d)'/g)].map(([, place]) => place!)
        const said = places.map((place) => own(['look', place]) + mark).join('\n') + '\n'
        return { exitCode, stderr, stdout: said.slice(0, Math.ceil(said.length * keptShare)) }
      },
      async ({ args }) => own(args).trim(),
    )
    const asked = answers.map((_, place) => ask({ args: ['look', `${place}`], what: 'look' }))
    expect(await Promise.all(asked)).toEqual(answers.map((answer) => answer.trim()))
  })
})

describe('a body that is longer than the common limit', () => {
  const job = 'mutation Submit($input: SubmitJobInput!) { submitJob(input: $input) { __typename } }'
  const others = [
    '{ viewer { role } }',
    'mutation { a: submitJob { x } b: submitJob { x } }',
    'mutation { ...F } fragment F on Mutation { startMigration { x } }',
  ]
  const documents = fc.oneof(
    fc.constant(job),
    bytesLike(fc.constantFrom(job, ...others).map((document) => Buffer.from(document))).map((bytes) => bytes.toString()),
    fc.subarray([job, ...others]).map((some) => some.join('\n')),
  )
  fuzz(
    'is read for documents whose every operation is one submitJob, or refused as too large',
    fc.option(documents, { nil: undefined }),
    (query) => {
      const plugin = onlySubmitJob() as { onParams(of: { params: { query: string | undefined } }): void }
      const isRead = parsed(
        () => {
          plugin.onParams({ params: { query } })
          return true
        },
        (error) => error instanceof GraphQLError && error.extensions['code'] === 'REQUEST_ENTITY_TOO_LARGE',
      )
      if (query === job) expect(isRead).toBe(true)
      if (!isRead) return
      visit(parse(query!), {
        OperationDefinition: ({ operation, selectionSet: { selections } }) => {
          expect(operation).toBe(OperationTypeNode.MUTATION)
          expect(selections).toMatchObject([{ kind: 'Field', name: { value: 'submitJob' } }])
        },
      })
    },
  )
})
