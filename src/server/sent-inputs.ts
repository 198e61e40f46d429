/** What the mutations of a request were sent, put together from the document and the variables where the executor did not come to it. */
import {
  getNullableType,
  getOperationAST,
  isInputObjectType,
  isListType,
  Kind,
  valueFromASTUntyped,
  type DocumentNode,
  type ExecutionArgs,
  type FieldNode,
  type GraphQLInputType,
  type SelectionSetNode,
} from 'graphql'
import { withheld } from '../secrets/withhold-secrets.ts'

interface SentInput {
  /** The field's name in the answer. */
  responseName: string
  mutation: string
  /** By the names of the input's own members, so that those tell what is secret; null where none was sent. */
  input: unknown
}

/** In the order of the document; empty for a query. */
export function sentInputs({ document, operationName, variableValues, schema }: ExecutionArgs): SentInput[] {
  const operation = getOperationAST(document, operationName)
  if (operation?.operation !== 'mutation') return []
  const known = schema.getMutationType()?.getFields() ?? {}
  return rootFields(operation.selectionSet, document).flatMap(({ name, alias, arguments: given = [] }) => {
    const type = known[name.value]?.args.find((argument) => argument.name === 'input')?.type
    if (!type) return []
    const sent = given.find((argument) => argument.name.value === 'input')
    const input = sent && valueFromASTUntyped(sent.value, variableValues)
    return [{ responseName: (alias ?? name).value, mutation: name.value, input: fitting(type, input) ?? null }]
  })
}

/** Each once, as the executor would run it: fields of one response name are one, and a fragment that is spread twice is there once. */
function rootFields(selections: SelectionSetNode, { definitions }: DocumentNode): FieldNode[] {
  const fragments = definitions.filter((definition) => definition.kind === Kind.FRAGMENT_DEFINITION)
  const fields = new Map<string, FieldNode>()
  const spread = new Set<string>()
  function collect(set: SelectionSetNode | undefined): void {
    for (const selection of set?.selections ?? []) {
      if (selection.kind === Kind.INLINE_FRAGMENT) collect(selection.selectionSet)
      else if (selection.kind === Kind.FIELD) fields.getOrInsert((selection.alias ?? selection.name).value, selection)
      else if (!spread.has(selection.name.value)) {
        spread.add(selection.name.value)
        collect(fragments.find(({ name }) => name.value === selection.name.value)?.selectionSet)
      }
    }
  }
  collect(selections)
  return [...fields.values()]
}

/** Without what the type has no place for: that may be anything, such as a credential under a mistyped name. */
function fitting(type: GraphQLInputType, value: unknown): unknown {
  if (value === null || value === undefined) return value
  const expected = getNullableType(type)
  if (isListType(expected))
    return Array.isArray(value) ? value.map((member) => fitting(expected.ofType, member)) : fitting(expected.ofType, value)
  if (!isInputObjectType(expected)) return typeof value === 'object' && expected.name !== 'JSON' ? withheld : value
  if (typeof value !== 'object') return withheld
  const fields = expected.getFields()
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => {
      const field = Object.hasOwn(fields, name) ? fields[name] : undefined
      return [name, field ? fitting(field.type, member) : withheld]
    }),
  )
}
