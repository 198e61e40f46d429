import type { MigrationRequest } from './migration-request.ts'

/** The life of one test boot of a migration's copy: see src/workflows/migration-test-run.ts. */
export const migrationTestStates = ['PENDING', 'RUNNING', 'PASSED', 'FAILED'] as const
export type MigrationTestState = (typeof migrationTestStates)[number]

/** What the cutover does to the copy before its first boot and a test boot doesn't (docs/decisions/0012-test-boot.md): a sentence each. Pure. */
export function notTriedByTest({
  addressing = [],
  excludedDirectories = [],
}: Pick<MigrationRequest, 'addressing' | 'excludedDirectories'>): string[] {
  return [
    'The guest fix-up (fstab, interface names, drivers in the initramfs, boot loader, SELinux labels): the copy booted as it lies on the disk.',
    ...(addressing.length > 0 ? ['The other addresses that the interfaces get: the copy booted with those of the source.'] : []),
    ...(excludedDirectories.length > 0
      ? [
          `Emptying the excluded directories (${excludedDirectories.join(', ')}): the copy booted with what of them is on its disk, whose data was not copied.`,
        ]
      : []),
  ]
}
