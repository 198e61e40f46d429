import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildSchema, parse, validate } from 'graphql'
import { expect, test } from 'vitest'
import * as documents from '../../src/cli/demo-documents.ts'

const schema = buildSchema(readFileSync(join(import.meta.dirname, '../../schema/schema.graphql'), 'utf8'))
const operations = Object.entries(documents).filter(([name]) => name !== 'migrationFields')

test.each(operations)('the demo asks in words of the committed schema: %s', (_, document) => {
  expect(validate(schema, parse(document)).map(({ message }) => message)).toEqual([])
})
