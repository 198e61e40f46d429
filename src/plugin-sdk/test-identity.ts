import { createHash } from 'node:crypto'

/** For `destination.testBoot`: what makes a test's VM another one than the copy. Always the same for the same test, so that a repeated call finds it again. */
export function testIdentity(vmId: string, testId: string): { uniqueId: string; mac(nicIndex: number): string } {
  const digest = (...parts: (string | number)[]) =>
    createHash('sha256')
      .update(JSON.stringify([vmId, testId, ...parts]))
      .digest('hex')
  const id = digest()
  return {
    // A UUID of version 8.
    uniqueId: `${id.slice(0, 8)}-${id.slice(8, 12)}-8${id.slice(13, 16)}-a${id.slice(17, 20)}-${id.slice(20, 32)}`,
    mac: (nicIndex) => `52:54:00:${digest(nicIndex).replace(/^(..)(..)(..).*$/, '$1:$2:$3')}`,
  }
}
