/** What the control plane may ask of an agent, checked before anything acts on it. Pure; unknown members are dropped. */
import { isIP } from 'node:net'
import type { AgentBootstrap, AgentRole, ControlMethod, ControlRequests, ExcludedPlace, NicAddressing } from './control-protocol.ts'
import { TransferError } from './transfer-error.ts'

type Members = Record<string, unknown>
type Endpoint = { host: string; port: number }

/** Throws TransferError INVALID_REQUEST. */
export function parseBootstrap(json: string): AgentBootstrap {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch {
    throw invalid('the bootstrap file is not JSON')
  }
  const members = object(value, 'bootstrap')
  return {
    migrationId: text(members, 'migrationId'),
    role: role(members['role']),
    controlPlane: list(members, 'controlPlane', endpoint),
    serverName: text(members, 'serverName'),
    caCertificatePem: text(members, 'caCertificatePem'),
    enrolmentToken: text(members, 'enrolmentToken'),
  }
}

/** The answer to enrolment. Throws INVALID_REQUEST, and what the control plane refused with as PEER_REFUSED. */
export function parseEnrolmentAnswer(value: unknown): { certificatePem: string } {
  const members = object(value, 'answer')
  if ('refused' in members) {
    const refused = object(members['refused'], 'refused')
    throw new TransferError('PEER_REFUSED', `The control plane refused to enrol this agent: ${text(refused, 'message')}`, {
      retryable: false,
    })
  }
  return { certificatePem: text(object(members['certificate'], 'certificate'), 'certificatePem') }
}

/** One request of the control plane; its parameters are checked by `parseParams`, so that a bad request is answered under its id. */
export function parseRequest(value: unknown): { id: string; method: string; params: unknown } {
  const request = object(object(value, 'message')['request'], 'request')
  return { id: text(request, 'id'), method: text(request, 'method'), params: request['params'] }
}

type Parsers = { [M in ControlMethod]: (params: Members) => ControlRequests[M][0] }

const nothing = (): Record<string, never> => ({})
const freezeLease = (params: Members) => ({ freezeId: text(params, 'freezeId'), leaseMs: positive(params, 'leaseMs') })

const parsers: Parsers = {
  'transfer.connect': (params) => ({
    ...(params['listenPort'] === undefined ? {} : { listenPort: port(params, 'listenPort') }),
    ...(params['endpoints'] === undefined ? {} : { endpoints: list(params, 'endpoints', endpoint) }),
    ...(params['relay'] === undefined ? {} : { relay: relay(params['relay']) }),
    timeoutMs: positive(params, 'timeoutMs'),
  }),
  'tracking.start': (params) => ({
    disk: text(params, 'disk'),
    ...(params['excludedDirectories'] === undefined ? {} : { excludedDirectories: list(params, 'excludedDirectories', path) }),
  }),
  'receive.start': (params) => {
    if (typeof params['empty'] !== 'boolean') throw invalid('`empty` is not true or false')
    return { disk: text(params, 'disk'), empty: params['empty'] }
  },
  'round.run': (params) => {
    const { round, mode } = params
    if (typeof round !== 'number' || !Number.isSafeInteger(round) || round < 0) throw invalid('`round` is not a whole number')
    if (mode !== 'FULL' && mode !== 'CHANGED') throw invalid('`mode` is neither FULL nor CHANGED')
    return { round, mode }
  },
  'bandwidth.set': (params) => ({
    limitBytesPerSecond: params['limitBytesPerSecond'] === null ? null : positive(params, 'limitBytesPerSecond'),
  }),
  'round.stop': nothing,
  freeze: freezeLease,
  'freeze.renew': freezeLease,
  thaw: (params) => ({ freezeId: text(params, 'freezeId') }),
  root: nothing,
  fixUp: (params) => ({
    nics: list(params, 'nics', nic),
    ...(params['sourceDisk'] === undefined ? {} : { sourceDisk: diskName(params) }),
    ...(params['empty'] === undefined ? {} : { empty: list(params, 'empty', place) }),
  }),
  interfaces: nothing,
  'hook.run': (params) => ({
    hookId: text(params, 'hookId'),
    command: list(params, 'command', argument),
    timeoutMs: positive(params, 'timeoutMs'),
    environment: Object.fromEntries(Object.entries(object(params['environment'], 'environment')).map(environmentEntry)),
  }),
  exit: nothing,
}

export function isControlMethod(method: string): method is ControlMethod {
  return Object.hasOwn(parsers, method)
}

/** Throws TransferError INVALID_REQUEST. */
export function parseParams<M extends ControlMethod>(method: M, params: unknown): ControlRequests[M][0] {
  const parser: (params: Members) => ControlRequests[M][0] = parsers[method]
  return parser(object(params ?? {}, 'params'))
}

function object(value: unknown, name: string): Members {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(`\`${name}\` is not an object`)
  return { ...value }
}

function text(members: Members, name: string): string {
  const value = members[name]
  if (typeof value !== 'string' || value === '' || value.length > 65_536) throw invalid(`\`${name}\` is not a text`)
  return value
}

function positive(members: Members, name: string): number {
  const value = members[name]
  if (typeof value !== 'number' || !(value > 0) || !Number.isFinite(value)) throw invalid(`\`${name}\` is not a positive number`)
  return value
}

function port(members: Members, name: string): number {
  const value = positive(members, name)
  if (!Number.isInteger(value) || value > 65_535) throw invalid(`\`${name}\` is not a port`)
  return value
}

function list<T>(members: Members, name: string, parse: (value: unknown) => T): T[] {
  const value = members[name]
  if (!Array.isArray(value) || value.length > 256) throw invalid(`\`${name}\` is not a list`)
  return value.map(parse)
}

function endpoint(value: unknown): Endpoint {
  const members = object(value, 'endpoint')
  return { host: text(members, 'host'), port: port(members, 'port') }
}

function relay(value: unknown): Endpoint & { token: string } {
  return { ...endpoint(value), token: text(object(value, 'relay'), 'token') }
}

/** Names end up in paths and configuration of the guest, so only what the kernel itself allows passes. */
function nic(value: unknown): ControlRequests['fixUp'][0]['nics'][number] {
  const members = object(value, 'nic')
  const mac = text(members, 'mac').toLowerCase()
  const name = text(members, 'name')
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac)) throw invalid('`mac` is not a MAC address')
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$/.test(name)) throw invalid("`name` is not a network interface's name")
  return { mac, name, ...(members['addressing'] === undefined ? {} : { addressing: nicAddressing(members['addressing']) }) }
}

function nicAddressing(value: unknown): NicAddressing {
  const members = object(value, 'addressing')
  if (members['mode'] === 'DHCP') return { mode: 'DHCP' }
  const [address = '', prefix = '', ...more] = text(members, 'address').split('/')
  const bits = isIP(address) === 4 ? 32 : 128
  if (members['mode'] !== 'STATIC' || !isPlainIp(address) || more.length > 0 || !/^\d{1,3}$/.test(prefix) || Number(prefix) > bits)
    throw invalid('`addressing` is neither DHCP nor an address with its prefix length')
  const ip = (given: unknown): string => {
    if (typeof given !== 'string' || !isPlainIp(given)) throw invalid('`addressing` holds what is not an IP address')
    return given
  }
  const { gateway } = members
  return {
    mode: 'STATIC',
    address: `${address}/${Number(prefix)}`,
    gateway: gateway === null || gateway === undefined ? null : ip(gateway),
    dnsServers: list(members, 'dnsServers', ip),
  }
}

/** A zone (`%eth0`) is free text, and no address of a machine's configuration needs one. */
function isPlainIp(text: string): boolean {
  return isIP(text) !== 0 && !text.includes('%')
}

/** Also an empty one; but a NUL would end it early. */
function argument(value: unknown): string {
  if (typeof value !== 'string' || value.length > 16_384 || value.includes('\0')) throw invalid('`command` is not a list of arguments')
  return value
}

function environmentEntry([name, value]: [string, unknown]): [string, string] {
  if (!/^PORTOLAN_[A-Z_]{1,40}$/.test(name)) throw invalid('`environment` holds a name that is not ours')
  return [name, argument(value)]
}

function diskName(params: Members): string {
  const name = text(params, 'sourceDisk')
  if (!/^[a-z][a-z0-9]{1,30}$/.test(name)) throw invalid("`sourceDisk` is not a disk's name")
  return name
}

/** What it names is emptied, so it has to be written in the one plain way. */
function path(value: unknown): string {
  const parts = typeof value === 'string' && value.length <= 4096 ? value.split('/').slice(1) : []
  const plain = typeof value === 'string' && value.startsWith('/') && parts.every((part) => part !== '' && part !== '.' && part !== '..')
  if (plain && !/[\p{Cc}]/u.test(value)) return value
  throw invalid(`${JSON.stringify(value)?.slice(0, 100)} is not the path of a directory`)
}

function place(value: unknown): ExcludedPlace {
  const members = object(value, 'place')
  const { partition } = members
  if (partition !== null && !(typeof partition === 'number' && Number.isInteger(partition) && partition > 0))
    throw invalid('`partition` is not the number of one')
  return { partition, path: path(members['path']) }
}

function role(value: unknown): AgentRole {
  if (value === 'SOURCE' || value === 'DESTINATION') return value
  throw invalid('`role` is neither SOURCE nor DESTINATION')
}

function invalid(reason: string): TransferError {
  return new TransferError('INVALID_REQUEST', `The control plane's message is not valid: ${reason}. Nothing was done.`, {
    retryable: false,
  })
}
