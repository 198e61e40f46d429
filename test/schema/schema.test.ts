import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  getNullableType,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isNonNullType,
  isObjectType,
  isUnionType,
  lexicographicSortSchema,
  parse,
  printSchema,
  validate,
} from 'graphql'
import { expect, test } from 'vitest'
import { schema } from '../../schema/index.ts'
import { exampleTabs } from '../../src/server/graphiql-examples.ts'

const types = Object.values(schema.getTypeMap()).filter((type) => !type.name.startsWith('__'))
const mutations = Object.values(schema.getMutationType()!.getFields())

/** Every type, field, argument, input field and enum value, as `[name, description]`. */
function described(): [string, string | null | undefined][] {
  return types.flatMap((type): [string, string | null | undefined][] => {
    const own: [string, string | null | undefined] = [type.name, type.description]
    if (isEnumType(type)) return [own, ...type.getValues().map((value): typeof own => [`${type.name}.${value.name}`, value.description])]
    if (isInputObjectType(type))
      return [own, ...Object.values(type.getFields()).map((field): typeof own => [`${type.name}.${field.name}`, field.description])]
    if (!isObjectType(type) && !isInterfaceType(type)) return [own]
    const fields = Object.values(type.getFields()).flatMap((field): (typeof own)[] => [
      [`${type.name}.${field.name}`, field.description],
      ...field.args.map((argument): typeof own => [`${type.name}.${field.name}(${argument.name})`, argument.description]),
    ])
    return [own, ...fields]
  })
}

test('every type, field, argument and enum value is described in a sentence', () => {
  const wanting = described().filter(([, description]) => !/^[^a-z].*[.!?]$/s.test(description?.trim() ?? ''))
  expect(wanting).toEqual([])
  expect(described().length).toBeGreaterThan(400)
})

test('a duration or rate says its unit, and a number of bytes is a ByteCount', () => {
  const wanting = types.flatMap((type) =>
    isObjectType(type) || isInterfaceType(type) || isInputObjectType(type)
      ? Object.values(type.getFields())
          .filter(({ name, description, type: of }) => {
            if (name.endsWith('Ms')) return !/millisecond/.test(description ?? '')
            if (name.endsWith('PerSecond')) return !/a second/.test(description ?? '')
            return /Bytes$|^bytes/.test(name) && String(getNullableType(of)) !== 'ByteCount'
          })
          .map((field) => `${type.name}.${field.name}`)
      : [],
  )
  expect(wanting).toEqual([])
})

test('the committed schema is what the code says', () => {
  const committed = readFileSync(join(import.meta.dirname, '../../schema/schema.graphql'), 'utf8')
  expect(`${printSchema(lexicographicSortSchema(schema))}\n`).toBe(committed)
})

test('each mutation takes one input with an idempotency key, and answers its success or any typed error', () => {
  for (const mutation of mutations) {
    const [argument, ...others] = mutation.args
    expect([argument?.name, others]).toEqual(['input', []])
    const input = isNonNullType(argument?.type) ? argument.type.ofType : undefined
    expect(isInputObjectType(input) && String(input.getFields()['idempotencyKey']?.type)).toBe('String!')
    const payload = isNonNullType(mutation.type) ? mutation.type.ofType : undefined
    const members = isUnionType(payload) ? payload.getTypes().map((type) => type.name) : []
    expect(members).toContain(`${mutation.name[0]!.toUpperCase()}${mutation.name.slice(1)}Success`)
    expect(members.filter((name) => name.endsWith('Error'))).toHaveLength(7)
  }
})

test("GraphiQL's examples fit the schema", () => {
  expect(exampleTabs.flatMap((tab) => validate(schema, parse(tab.query)))).toEqual([])
})
