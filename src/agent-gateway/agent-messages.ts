/**
 * What an agent may say, checked before anything acts on it: a guest can be hostile. Unknown members are dropped, since a newer minor
 * version may add some. The types are those of src/transfer/control-protocol.ts; `satisfies` holds the two together.
 */
import { z } from 'zod'
import type { AgentHello, ControlMethod, ControlRequests, RoundProgress } from '../transfer/control-protocol.ts'

const byteCount = z.int().nonnegative()
const durationMs = z.number().nonnegative().finite()
const shortText = z.string().max(256)
const mac = z.string().regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/)
const nothing = z.object({})
const roles = z.enum(['SOURCE', 'DESTINATION'])
const nics = z.array(z.object({ mac, name: z.string().min(1).max(64) })).max(64)

const disk = z.object({
  name: shortText.min(1),
  sizeBytes: byteCount,
  serial: shortText.nullable(),
  mounts: z
    .array(z.object({ path: z.string().max(4096), fsType: shortText, device: z.string().max(4096), readOnly: z.boolean() }))
    .max(256),
  root: z.boolean(),
  swap: z.boolean(),
})

const hello = z.object({
  protocol: z.object({ major: z.int().nonnegative(), minor: z.int().nonnegative() }),
  role: roles,
  migrationId: shortText,
  agentInstanceId: shortText.min(1),
  bootId: shortText,
  architecture: shortText,
  kernelRelease: shortText,
  libc: shortText,
  memoryTotalBytes: byteCount,
  memoryAvailableBytes: byteCount,
  disks: z.array(disk).max(64),
}) satisfies z.ZodType<AgentHello>

const bottleneck = z.enum(['SOURCE_DISK', 'SOURCE_CPU', 'LINK', 'DESTINATION_DISK', 'DESTINATION_CPU', 'BANDWIDTH_LIMIT'])

const progress = z.object({
  round: z.int().nonnegative(),
  scannedBytes: byteCount,
  totalBytes: byteCount,
  changedBytes: byteCount,
  bytesSent: byteCount,
  verifiedBytes: byteCount,
  rateBytesPerSecond: z.number().nonnegative().finite(),
  etaMs: durationMs.nullable(),
  bottleneck: bottleneck.nullable(),
  // Agents of protocol 1.0 don't tell.
  changeRateBytesPerSecond: z.number().nonnegative().finite().nullable().default(null),
  lookedUpFiles: z.int().nonnegative().optional(),
}) satisfies z.ZodType<RoundProgress>

const held = z.object({ held: z.boolean() })

const results: { [M in ControlMethod]: z.ZodType<ControlRequests[M][1]> } = {
  'transfer.connect': z.object({ via: z.enum(['DIRECT', 'RELAY']) }),
  'tracking.start': z.object({ mode: z.enum(['TRACEFS', 'RESCAN']), reason: z.string().max(2048).nullable() }),
  'receive.start': nothing,
  'round.run': z.object({
    round: z.int().nonnegative(),
    mode: z.enum(['FULL', 'CHANGED']),
    changedBytes: byteCount,
    bytesSent: byteCount,
    verifiedBytes: byteCount,
    durationMs,
    pendingBytes: byteCount,
    estimatedTransferMs: durationMs,
    estimatedVerifyMs: durationMs,
    rescanNeeded: z.boolean(),
    rateBytesPerSecond: z.number().nonnegative().finite().nullable().optional(),
    changeRateBytesPerSecond: z.number().nonnegative().finite().nullable().optional(),
    excludedBytes: byteCount.optional(),
    excluded: z
      .array(z.object({ partition: z.int().positive().nullable(), path: z.string().max(4096) }))
      .max(256)
      .optional(),
  }),
  'bandwidth.set': nothing,
  'round.stop': nothing,
  freeze: z.object({ frozen: z.array(z.string().max(4096)).max(256), freezeMs: durationMs }),
  'freeze.renew': held,
  thaw: held,
  root: z.object({ root: z.string().regex(/^[0-9a-f]{64}$/), blocks: z.int().nonnegative() }),
  fixUp: z.object({
    steps: z
      .array(z.object({ step: shortText, changed: z.boolean(), detail: z.string().max(4096), couldNot: z.string().max(4096).optional() }))
      .max(256),
  }),
  interfaces: z.object({ nics }),
  'hook.run': z.object({
    exitCode: z.int().nullable(),
    timedOut: z.boolean(),
    output: z.string().max(32_768),
    outputBytes: byteCount,
  }),
  exit: nothing,
}

const requestId = z.string().min(1).max(64)
const failure = z.object({ code: shortText, message: z.string().max(8192), retryable: z.boolean() })

const agentMessage = z.union([
  z.object({ hello }),
  z.object({ response: z.object({ id: requestId, error: failure }) }),
  z.object({ response: z.object({ id: requestId, result: z.unknown() }) }),
  z.object({ progress }),
  // Every few seconds, whatever else there is to say. Agents of before don't.
  z.object({ alive: z.literal(true) }),
])
export type AgentMessage = z.infer<typeof agentMessage>

const enrolRequest = z.object({
  enrol: z.object({ token: z.string().min(1).max(256), role: roles, publicKeyPem: z.string().max(1024) }),
})
export type EnrolRequest = z.infer<typeof enrolRequest>['enrol']

/** Throws TypeError with one sentence when the line is not an agent's message. */
export function parseAgentMessage(line: string): AgentMessage {
  return parse(agentMessage, line)
}

export function parseEnrolRequest(line: string): EnrolRequest {
  return parse(enrolRequest, line).enrol
}

/** Throws TypeError when the result is not what the method promises. */
export function parseResult<M extends ControlMethod>(method: M, result: unknown): ControlRequests[M][1] {
  const parsed = results[method].safeParse(result)
  if (!parsed.success) throw new TypeError(`the result of ${method} is malformed: ${firstIssue(parsed.error)}`)
  return parsed.data
}

function parse<T>(schema: z.ZodType<T>, line: string): T {
  let json: unknown
  try {
    json = JSON.parse(line)
  } catch {
    throw new TypeError('a line is not JSON')
  }
  const parsed = schema.safeParse(json)
  if (!parsed.success) throw new TypeError(`a message is malformed: ${firstIssue(parsed.error)}`)
  return parsed.data
}

/** Path and reason, never the value: it may be a token. */
function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0]
  return issue ? `${issue.path.join('.') || 'message'}: ${issue.message}` : 'unknown reason'
}
