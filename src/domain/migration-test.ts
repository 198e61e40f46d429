/** The life of one test boot of a migration's copy: see src/workflows/migration-test-run.ts. */
export const migrationTestStates = ['PENDING', 'RUNNING', 'PASSED', 'FAILED'] as const
export type MigrationTestState = (typeof migrationTestStates)[number]
