/** For any field of a root type: an operation that uses it, with arguments made up from their types. */
import {
  getNamedType,
  isEnumType,
  isInputObjectType,
  isLeafType,
  isListType,
  isNonNullType,
  isRequiredArgument,
  isRequiredInputField,
  type GraphQLField,
  type GraphQLInputType,
} from 'graphql'
import { idOf } from './seed.ts'

const samples: Record<string, unknown> = {
  ID: idOf('Migration', 'm1'),
  String: 'sample',
  Int: 1,
  Float: 1,
  Boolean: true,
  DateTime: '2026-11-22T14:00:00.000Z',
  ByteCount: 1,
  IPAddress: '192.0.2.7',
  CIDR: '192.0.2.0/24',
  JSON: {},
}

export function sampleOperation(kind: 'query' | 'mutation' | 'subscription', field: GraphQLField<unknown, unknown>) {
  const wanted = field.args.filter(isRequiredArgument)
  const declared = wanted.length > 0 ? `(${wanted.map(({ name, type }) => `$${name}: ${String(type)}`).join(', ')})` : ''
  const given = wanted.length > 0 ? `(${wanted.map(({ name }) => `${name}: $${name}`).join(', ')})` : ''
  const selection = isLeafType(getNamedType(field.type)) ? '' : ' { __typename }'
  return {
    query: `${kind} ${declared} { ${field.name}${given}${selection} }`,
    variables: Object.fromEntries(wanted.map(({ name, type }) => [name, sample(type)])),
  }
}

function sample(type: GraphQLInputType): unknown {
  if (isNonNullType(type)) return sample(type.ofType)
  if (isListType(type)) return []
  if (isEnumType(type)) return type.getValues()[0]?.name
  if (!isInputObjectType(type)) return samples[type.name]
  const fields = Object.values(type.getFields())
  // Of a choice exactly one has to be given.
  const wanted = type.isOneOf ? fields.slice(0, 1) : fields.filter(isRequiredInputField)
  return Object.fromEntries(wanted.map((field) => [field.name, sample(field.type)]))
}
