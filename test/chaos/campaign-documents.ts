/** The GraphQL documents that an operator would send after a fault. */
const fields = 'migrationId verdict row message safeActions reconciliation { state problem done }'

export const verdicts = `query Verdicts($migrationIds: [ID!], $cloudId: ID) {
  migrationVerdicts(migrationIds: $migrationIds, cloudId: $cloudId) { uniqueId ${fields} }
}`

export const retry = `mutation Retry($input: RetryMigrationInput!) {
  retryMigration(input: $input) { ... on RetryMigrationSuccess { migration { id } } ... on Error { code message } }
}`

export const reconcile = `mutation Reconcile($input: ReconcileMigrationsInput!) {
  reconcileMigrations(input: $input) { ... on ReconcileMigrationsSuccess { reconciliations { id } } ... on Error { code message } }
}`

export const attest = `mutation Attest($input: AttestSourceDeadInput!) {
  attestSourceDead(input: $input) { ... on AttestSourceDeadSuccess { attestation { id } } ... on Error { code message } }
}`

export interface Verdict {
  uniqueId: string | null
  verdict: 'MIGRATED' | 'NOT_MIGRATED' | 'UNKNOWN'
  row: string
  message: string
  safeActions: string[]
  reconciliation: { state: string; problem: string | null; done: string[] } | null
}
