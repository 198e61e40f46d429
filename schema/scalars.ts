import { isIP } from 'node:net'
import { GraphQLError, Kind, valueFromASTUntyped } from 'graphql'
import { builder } from './builder.ts'

/** Bytes, a safe integer. */
export type ByteCount = number

function wrong(scalar: string, expected: string): never {
  throw new GraphQLError(`${scalar} takes ${expected}.`, { extensions: { code: 'INVALID_INPUT' } })
}

/** Without a time zone it would be this machine's, which no client knows. */
const moment = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d([.]\d{1,9})?)?(Z|[+-]\d\d:\d\d)$/

builder.scalarType('DateTime', {
  description: 'A moment in UTC as ISO 8601 with milliseconds, such as `2026-11-22T14:05:09.120Z`.',
  specifiedByURL: 'https://scalars.graphql.org/andimarek/date-time.html',
  serialize: (value) => value.toISOString(),
  parseValue: (value) => {
    const at = typeof value === 'string' && moment.test(value) ? new Date(value) : new Date(Number.NaN)
    return Number.isNaN(at.getTime()) ? wrong('DateTime', 'an ISO 8601 string with its time zone, such as 2026-11-22T14:05:09Z') : at
  },
})

builder.scalarType('ByteCount', {
  description:
    'A number of bytes: a whole number from 0 to 2^53 - 1, which JSON and JavaScript keep exactly (the 32 bits of Int end at 2 GiB).',
  serialize: (value) => (Number.isSafeInteger(value) && value >= 0 ? value : wrong('ByteCount', 'a whole number from 0 to 2^53 - 1')),
  parseValue: (value) =>
    typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
      ? value
      : wrong('ByteCount', 'a whole number from 0 to 2^53 - 1'),
})

builder.scalarType('IPAddress', {
  description: 'An IPv4 or IPv6 address without a prefix length, such as `192.0.2.7` or `2001:db8::7`.',
  serialize: (value) => value,
  parseValue: (value) => (typeof value === 'string' && isIP(value) ? value : wrong('IPAddress', 'an IPv4 or IPv6 address')),
})

builder.scalarType('CIDR', {
  description: 'A range of addresses with its prefix length, such as `192.0.2.0/24` or `2001:db8::/32`.',
  serialize: (value) => value,
  parseValue: (value) => (typeof value === 'string' && isRange(value) ? value : wrong('CIDR', 'an address, a slash and a prefix length')),
})

function isRange(text: string): boolean {
  const [address = '', length = ''] = text.split('/')
  const family = isIP(address)
  return family !== 0 && text.split('/').length === 2 && /^\d{1,3}$/.test(length) && Number(length) <= (family === 4 ? 32 : 128)
}

builder.scalarType('JSON', {
  description:
    "Any JSON value. Used only where others decide the form: a plugin of a cloud's options (checked against the plugin's own schema) and of the JSON Schema that describes them, and a job's program of what its tasks take and give.",
  serialize: (value) => value,
  parseValue: (value) => value,
  parseLiteral: (node, variables) =>
    node.kind === Kind.VARIABLE ? variables?.[node.name.value] : valueFromASTUntyped(node, variables as never),
})
