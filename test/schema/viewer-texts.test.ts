/**
 * Roles below the root. Whatever a token of any kind can reach is for viewers unless its field, its type or every way to it says otherwise; that is harmless for numbers, enums, moments,
 * ids and objects, and not for texts, which can hold a secret. Each text that viewers read is in this list, so that a new one is a decision: add it here, or give the field `authScopes`.
 */
import {
  getNamedType,
  isAbstractType,
  isInterfaceType,
  isObjectType,
  isScalarType,
  type GraphQLInterfaceType,
  type GraphQLNamedType,
  type GraphQLObjectType,
} from 'graphql'
import { expect, test } from 'vitest'
import { schema } from '../../schema/index.ts'

const forViewers: Record<string, string> = {
  Attestation: 'statement tokenName uniqueId',
  BandwidthWindow: 'from timeZone to',
  Cloud: 'capabilities name problem',
  Disk: 'bus providerId',
  Endpoint: 'host',
  Error: 'message path remedy',
  Finding: 'code message remedy',
  Host: 'name providerId',
  HttpHealthCheck: 'path',
  Job: 'imbalance name parentReason program',
  JobChild: 'lossReason',
  JobEvent: 'message',
  JobLibraryRequirement: 'name version',
  JobOutput: 'output',
  JobRequirements: 'runtimeVersion',
  JobSharedInput: 'name value',
  JobTask: 'error input log output',
  Migration: 'activity bottleneckRemedy destinationRoot excludedDirectories problem sourceRoot',
  MigrationEvent: 'message',
  MigrationGroup: 'name',
  MigrationGroupMember: 'awaits dependsOn name stoppedBy',
  MigrationTest: 'notTried problem',
  MigrationVerdict: 'message name uniqueId',
  Network: 'name providerId',
  NetworkInterface: 'macAddress',
  PageInfo: 'endCursor startCursor',
  ParentVm: 'imagePath name packages problem warmUp',
  ParentVmCopy: 'diskSha256 problem ramSha256',
  ParentVmLibrary: 'name version',
  ParentVmOffers: 'runtimeVersion',
  Plugin: 'capabilities optionsSchema pluginId',
  Reconciliation: 'done name problem uniqueId',
  Region: 'name providerId',
  Subnet: 'name providerId',
  VerdictEvidence: 'key message',
  Viewer: 'tokenName',
  VirtualMachine: 'name providerId uniqueId',
  Zone: 'name providerId',
}

/** Scalars that hold nothing but what they are named after. */
const plainScalars = ['ID', 'Int', 'Float', 'Boolean', 'DateTime', 'ByteCount', 'IPAddress', 'CIDR']

interface OfPothos {
  pothosOptions?: { authScopes?: object }
}
const hasRole = ({ extensions }: { extensions: object }) => (extensions as OfPothos).pothosOptions?.authScopes !== undefined
const rootTypes = [schema.getQueryType()!, schema.getMutationType()!, schema.getSubscriptionType()!]

type Fields = GraphQLObjectType | GraphQLInterfaceType

/** Types that a viewer comes to, from fields that are for viewers, through fields and types without a role of their own. */
function reachedByViewers(): Fields[] {
  const reached = new Set<Fields>()
  const reach = (type: GraphQLNamedType): void => {
    if (isAbstractType(type)) for (const possible of schema.getPossibleTypes(type)) reach(possible)
    if (!(isObjectType(type) || isInterfaceType(type)) || reached.has(type) || hasRole(type)) return
    reached.add(type)
    for (const field of Object.values(type.getFields())) if (!hasRole(field)) reach(getNamedType(field.type))
  }
  for (const root of rootTypes)
    for (const field of Object.values(root.getFields())) if (field.extensions['role'] === 'VIEWER') reach(getNamedType(field.type))
  return [...reached]
}

/** Those of the type itself: what it has of an interface is listed there. */
function textsOf(type: Fields): string[] {
  const inherited = type.getInterfaces().flatMap((of) => Object.keys(of.getFields()))
  return Object.values(type.getFields())
    .filter((field) => {
      const named = getNamedType(field.type)
      return isScalarType(named) && !plainScalars.includes(named.name) && !inherited.includes(field.name) && !hasRole(field)
    })
    .map(({ name }) => name)
    .toSorted()
}

test('a text that viewers read is one that somebody decided they may', () => {
  const found = reachedByViewers().map((type) => [type.name, textsOf(type).join(' ')] as const)
  expect(Object.fromEntries(found.filter(([name, texts]) => texts !== '' && !name.endsWith('Edge')))).toEqual(forViewers)
})

test('what is for operators and admins is not reached by viewers', () => {
  const names = reachedByViewers().map(({ name }) => name)
  expect(names).toEqual(expect.arrayContaining(['Migration', 'MigrationTest', 'JobTask', 'Attestation']))
  for (const name of ['ApiToken', 'AuditEntry', 'CreateApiTokenSuccess']) expect(names).not.toContain(name)
  expect(forViewers['MigrationTest']).not.toMatch(/console/)
})
