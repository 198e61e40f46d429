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

/** By a field's or argument's name, where the sample of its type would be refused before anything else is looked at. */
const samplesByName: Record<string, unknown> = {
  after: Buffer.from('["2026","id"]').toString('base64url'),
  before: Buffer.from('[1,"id"]').toString('base64url'),
  from: '22:00',
  to: '06:00',
  timeZone: 'Europe/Lisbon',
  limitBytesPerSecond: 1_000_000,
  mac: '52:54:00:00:00:01',
  address: '192.0.2.7/24',
  gateway: '192.0.2.1',
  path: '/health',
  excludedDirectories: '/var/cache',
  url: 'https://hooks.example/portolan?a=1',
  phase: 'SYNC',
  dhcp: false,
}
/** Objects that seed.ts makes, by the end of the names that take their ids. */
const samplesByEnding: [RegExp, string][] = [
  [/VirtualMachineId$/, idOf('VirtualMachine', 'east/vm-1')],
  [/destinationCloudId$/, idOf('Cloud', 'west')],
  [/cloudIds?$/i, idOf('Cloud', 'east')],
  [/hostId$/i, idOf('Host', 'east/h1')],
  [/zoneId$/i, idOf('Zone', 'east/z1')],
  [/destinationNetworkId$/, idOf('Network', 'west/n1')],
  [/networkId$/i, idOf('Network', 'east/n1')],
  [/migrationIds?$/i, idOf('Migration', 'm1')],
  [/migrationGroupId$/, idOf('MigrationGroup', 'g1')],
  [/jobId$/, idOf('Job', 'j1')],
  [/parentVmId$/, idOf('ParentVm', 'p1')],
  [/apiTokenId$/, idOf('ApiToken', 't1')],
]

/** Where two members exclude each other: the one that stays away. */
const leftAway: Record<string, string> = {
  HookInput: 'command',
  AttestSourceDeadInput: 'migrationId',
  ConcurrencyLimitInput: 'hostId',
  ReconcileMigrationsInput: 'cloudId',
}

interface Options {
  /** With the optional arguments and members of inputs, and an entry in each list; only the required ones otherwise. */
  full?: boolean
  /** The object that has the field: of which type, and its id. A root type otherwise. */
  of?: { type: string; id: string }
}

export function sampleOperation(
  kind: 'query' | 'mutation' | 'subscription',
  field: GraphQLField<unknown, unknown>,
  { full = false, of }: Options = {},
) {
  const wanted = full ? field.args : field.args.filter(isRequiredArgument)
  const declared = wanted.length > 0 ? `(${wanted.map(({ name, type }) => `$${name}: ${String(type)}`).join(', ')})` : ''
  const given = wanted.length > 0 ? `(${wanted.map(({ name }) => `${name}: $${name}`).join(', ')})` : ''
  const selection = isLeafType(getNamedType(field.type)) ? '' : ' { __typename }'
  const used = `${field.name}${given}${selection}`
  return {
    query: `${kind} ${declared} { ${of ? `node(id: "${of.id}") { ... on ${of.type} { ${used} } }` : used} }`,
    variables: Object.fromEntries(wanted.map(({ name, type }) => [name, sample(type, full, name)])),
  }
}

function sample(type: GraphQLInputType, full: boolean, name: string): unknown {
  if (isNonNullType(type)) return sample(type.ofType, full, name)
  if (isListType(type)) return full ? [sample(type.ofType, full, name)] : []
  if (isInputObjectType(type)) {
    const fields = Object.values(type.getFields())
    const all = fields.filter((one) => leftAway[type.name] !== one.name)
    // Of a choice exactly one has to be given.
    const wanted = type.isOneOf ? fields.slice(0, 1) : full ? all : fields.filter(isRequiredInputField)
    return Object.fromEntries(wanted.map((one) => [one.name, sample(one.type, full, one.name)]))
  }
  const known = full && type.name === 'ID' ? samplesByEnding.find(([ending]) => ending.test(name))?.[1] : undefined
  if (known !== undefined) return known
  if (full && type.name !== 'DateTime' && name in samplesByName) return samplesByName[name]
  return isEnumType(type) ? type.getValues()[0]?.name : samples[type.name]
}
