/** Names the fence of one switchover, so that what comes late of an older one does nothing to it. */
export function switchoverFenceId(of: { id: string; attempt: number; switchover: number }): string {
  return `${attemptFenceId(of)}.${of.switchover}`
}

/** Where nobody knows which switchover it was: a reconciliation fences under this name, unless a fence of the attempt is armed already. */
export function attemptFenceId({ id, attempt }: { id: string; attempt: number }): string {
  return `${id}.${attempt}`
}

/** Whether any attempt of the migration armed it, or a reconciliation of it. */
export function isFenceOfMigration(fenceId: string, migrationId: string): boolean {
  return fenceId.startsWith(`${migrationId}.`)
}

/** An attempt begins only once the one before it has ended, so whatever is left of that one's fence guards nothing. */
export function isFenceOfEarlierAttempt(fenceId: string, { id, attempt }: { id: string; attempt: number }): boolean {
  return isFenceOfMigration(fenceId, id) && Number.parseInt(fenceId.slice(id.length + 1), 10) < attempt
}

/** The attempt's own, or what an earlier one left that nobody has released yet. */
export function isFenceUpToAttempt(fenceId: string, of: { id: string; attempt: number }): boolean {
  return isFenceOfAttempt(fenceId, attemptFenceId(of)) || isFenceOfEarlierAttempt(fenceId, of)
}

/** Whether it is the fence of any switchover of the attempt that `attemptId` names. */
export function isFenceOfAttempt(fenceId: string, attemptId: string): boolean {
  return fenceId === attemptId || fenceId.startsWith(`${attemptId}.`)
}
