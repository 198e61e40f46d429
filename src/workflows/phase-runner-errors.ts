/** Why a run ends, where no phase says so. */
import { PortolanError, type ErrorCode } from '../domain/errors.ts'
import type { MigrationRow } from './migration-store.ts'

export function outdated({ id, attempt }: MigrationRow): PortolanError {
  return new PortolanError(
    'CONFLICT',
    `The destination's records go on past attempt ${attempt} of migration ${id}, so this control plane's database is older than they are, as where a backup was put back; nothing was changed at either site.`,
    {
      retryable: false,
      remedy:
        'Read migrationVerdicts of the destination cloud: what is true of the machine is in its records. Then reconcileMigrations there.',
    },
  )
}

export function sourceAttestedDead(): PortolanError {
  return new PortolanError(
    'CLOUD_UNREACHABLE',
    "The source can't be reached or is gone, and was attested dead, so the migration is undone.",
    {
      retryable: true,
      remedy: 'Should the source return, it goes on by its verdict; then retry the migration, or discard the copy.',
    },
  )
}

export function voidedTooOften(times: number, reason: string, code: ErrorCode = 'LEASE_LAPSED'): PortolanError {
  return new PortolanError(code, `The switchover was voided ${times} times, the last time since ${reason}`, {
    retryable: true,
    remedy: "See the migration's events for why each one was void and mend that, then retry it: it goes on from what was copied.",
  })
}
