import type { MachineVerdict } from './verdict-reader.ts'

/** What a reconciliation waits for. */
export function waitSentence({ safeActions, message, source, destination, standing }: MachineVerdict): string {
  if (safeActions.includes('LET_MIGRATION_RUN') || standing.disputed) return message
  if (safeActions.includes('WAIT_FOR_DESTINATION'))
    return `The destination's site can't be read (${destination.message}), so nothing is started anywhere until it answers.`
  const then =
    standing.verdict === 'MIGRATED'
      ? 'The destination goes live once the source is fenced, or an administrator attests with attestSourceDead that it is dead.'
      : 'The machine goes on there once it returns; nothing is started elsewhere.'
  return `The source can't be reached (${source.message}) ${then}`
}
