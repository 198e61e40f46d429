import { errorCodes } from '../domain/errors.ts'
import type { AuditRow } from './audit-chain.ts'

/** Codes of attempts that may have had an effect, here or in a cloud. */
const unclear: readonly string[] = ['TIMED_OUT', 'CANCELLED', 'PLUGIN_CRASHED', 'CLOUD_UNREACHABLE', 'INTERNAL']

/** The code that the client saw. Messages aren't kept: they may quote what a cloud said. */
export function auditedErrorCode(error: unknown): string {
  const { code, extensions } = error as { code?: unknown; extensions?: { code?: unknown } }
  if (errorCodes.some((known) => known === code)) return String(code)
  return typeof extensions?.code === 'string' ? extensions.code : 'INTERNAL'
}

export function outcomeOf(errorCode: string): AuditRow['outcome'] {
  return unclear.includes(errorCode) ? 'FAILED' : 'REFUSED'
}
