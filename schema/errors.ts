import { wrapErrorIfMatches } from '@pothos/plugin-errors'
import { errorCodes, PortolanError } from '../src/domain/errors.ts'
import type { ErrorCode } from '../src/domain/errors.ts'
import { builder } from './builder.ts'
import { describedEnum } from './described-enum.ts'

const ErrorCodeEnum = describedEnum<ErrorCode>('ErrorCode', 'What went wrong, for programs. New codes may be added.', {
  INVALID_INPUT: 'A part of the input breaks a rule; `path` names it.',
  NOT_FOUND: 'What the input names does not exist.',
  CONFLICT: 'Something with that name or key exists already.',
  ALREADY_MIGRATING: 'The virtual machine has an active migration, and may have one only.',
  PRE_FLIGHT_FAILED: 'Pre-flight found a blocker; `validateMigration` lists all findings.',
  IDEMPOTENCY_KEY_REUSED: 'The idempotency key was used before with another input.',
  PLUGIN_UNKNOWN: 'No plugin of that id is loaded.',
  INVALID_OPTIONS: "The plugin's own schema refuses the options; `path` names the one.",
  UNAUTHORIZED_AT_CLOUD: 'The cloud refuses the credentials.',
  CLOUD_UNREACHABLE: 'The cloud does not answer.',
  INSUFFICIENT_CAPACITY: 'The destination has too little room.',
  UNSUPPORTED: 'The cloud or the guest lacks what this needs.',
  NOT_ALLOWED_NOW: 'The present state does not allow this.',
  TIMED_OUT: 'No answer came in time; it is not known whether it took effect.',
  CANCELLED: 'It was cancelled.',
  AGENT_UNREACHABLE: 'A migration agent in a guest can not be reached.',
  HOOK_FAILED: 'A hook of the operator failed, and its policy says that the migration then fails.',
  LEASE_LAPSED: 'The freeze of the source lapsed before the switchover was done, so that switchover is void and the source goes on.',
  ROOTS_DIFFER: "The copy's hash tree differs from the source's.",
  HEALTH_CHECK_FAILED: 'The destination did not pass its health check while isolated.',
  NOT_CONVERGING: 'The guest writes faster than the copy can follow.',
  NO_PARENT_MATCHES: 'No parent VM offers what the job requires; `message` names the requirement that none meets.',
  PROGRAM_FAILED: "A job's program could not be loaded, or broke a rule of its children's environment.",
  TASK_FAILED: 'A task of the job failed as often as it may, or killed its child as often as it may; `message` names it.',
  BARRIERS_STUCK: 'Tasks of the job wait for each other for ever; `message` names them and their barriers.',
  PLUGIN_CRASHED: "The plugin's process died; it is started again.",
  INTERNAL: 'A fault of Portolan itself; its log has the details under the reference given.',
})

/** What a client can act on, by what it does next. Every code but INTERNAL belongs to exactly one of these. */
abstract class ApiError extends Error {
  readonly code: ErrorCode
  readonly retryable: boolean
  readonly remedy: string
  readonly path: readonly string[]
  constructor(error: ErrorLike) {
    super(error.message)
    this.code = error.code
    this.retryable = error.retryable
    this.remedy = error.remedy
    this.path = error.path
  }
}
export interface ErrorLike {
  code: ErrorCode
  message: string
  retryable: boolean
  remedy: string
  path: readonly string[]
}

class InvalidInputError extends ApiError {}
class NotFoundError extends ApiError {}
class ConflictError extends ApiError {}
class PreFlightError extends ApiError {}
class CloudError extends ApiError {}
class MigrationError extends ApiError {}
class JobError extends ApiError {}

type ErrorClass = new (error: ErrorLike) => ApiError

/** Exhaustive: a new code does not compile until it has its place here. */
const classOf: Record<ErrorCode, ErrorClass> = {
  INVALID_INPUT: InvalidInputError,
  INVALID_OPTIONS: InvalidInputError,
  PLUGIN_UNKNOWN: InvalidInputError,
  IDEMPOTENCY_KEY_REUSED: InvalidInputError,
  NOT_FOUND: NotFoundError,
  CONFLICT: ConflictError,
  ALREADY_MIGRATING: ConflictError,
  NOT_ALLOWED_NOW: ConflictError,
  PRE_FLIGHT_FAILED: PreFlightError,
  INSUFFICIENT_CAPACITY: PreFlightError,
  UNSUPPORTED: PreFlightError,
  UNAUTHORIZED_AT_CLOUD: CloudError,
  CLOUD_UNREACHABLE: CloudError,
  PLUGIN_CRASHED: CloudError,
  TIMED_OUT: CloudError,
  CANCELLED: CloudError,
  AGENT_UNREACHABLE: MigrationError,
  HOOK_FAILED: MigrationError,
  LEASE_LAPSED: MigrationError,
  ROOTS_DIFFER: MigrationError,
  HEALTH_CHECK_FAILED: MigrationError,
  NOT_CONVERGING: MigrationError,
  NO_PARENT_MATCHES: JobError,
  PROGRAM_FAILED: JobError,
  TASK_FAILED: JobError,
  BARRIERS_STUCK: JobError,
  INTERNAL: MigrationError,
}

export const ErrorInterface = builder.interfaceRef<ErrorLike>('Error').implement({
  description: 'A failure that a client can act on. Select `... on Error { code message remedy }` in any payload.',
  resolveType: (error) => classOf[error.code].name,
  fields: (t) => ({
    code: t.expose('code', { type: ErrorCodeEnum, description: 'For programs.' }),
    message: t.exposeString('message', { description: 'One sentence: what failed, where, and what was left as it was.' }),
    retryable: t.exposeBoolean('retryable', { description: 'Whether the same call may succeed later without anybody changing anything.' }),
    remedy: t.exposeString('remedy', { description: 'What to do next: one sentence.' }),
    path: t.field({
      type: ['String'],
      description: 'The part of the input at fault, such as `["input", "name"]`; empty where it is none.',
      resolve: (error) => [...error.path],
    }),
  }),
})

function errorType(type: ErrorClass, name: string, description: string) {
  builder.objectType(type, { name, description, interfaces: [ErrorInterface] })
}
errorType(InvalidInputError, 'InvalidInputError', 'The input has to be corrected; nothing was changed.')
errorType(NotFoundError, 'NotFoundError', 'What the input names does not exist; nothing was changed.')
errorType(ConflictError, 'ConflictError', 'What exists or happens already stands against it; nothing was changed.')
errorType(PreFlightError, 'PreFlightError', 'What was asked for is not possible there; nothing was changed.')
errorType(CloudError, 'CloudError', 'A cloud refused, failed or did not answer.')
errorType(
  MigrationError,
  'MigrationError',
  'A migration failed while it ran; the source was left or brought back into service unless `message` says otherwise.',
)
errorType(
  JobError,
  'JobError',
  'A job can not be done as asked, or failed while it ran; its children are removed, and the results that it had are kept.',
)

const errorTypes = [...new Set(errorCodes.map((code) => classOf[code]))]

/** A stored failure as the value of a field of type `Error`; bare, GraphQL would take it for a failure of the field itself. */
export function errorValue(error: ErrorLike): ErrorLike {
  return wrapErrorIfMatches(new classOf[error.code](error), errorTypes) as ErrorLike
}

/** `errors` option of a mutation: its payload is a union of its success type and every error type. */
export function payload(mutation: string) {
  const name = `${mutation[0]?.toUpperCase()}${mutation.slice(1)}Payload`
  return {
    types: errorTypes as never as (typeof Error)[],
    union: { name, description: `What \`${mutation}\` answers: its success, or an \`Error\`.` },
  }
}

/** Runs a mutation's operation. A PortolanError becomes its typed error; INTERNAL and everything unknown goes on, to be masked by the server. */
export async function acting<Result>(operation: () => Promise<Result>): Promise<Result> {
  try {
    return await operation()
  } catch (error) {
    if (error instanceof PortolanError && error.code !== 'INTERNAL') throw new classOf[error.code](error)
    throw error
  }
}
