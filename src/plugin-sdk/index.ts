/** All that a plugin needs: the contract, its errors, and what most providers share. */
export * from './contract.ts'
export type * from './contract-fork.ts'
export * from './errors.ts'
/** Any Standard Schema describes a plugin's options; this one comes along. */
export { z } from 'zod'
export { accessFor, guestAccessOptions, type GuestAccess } from './guest-access.ts'
export { consoleBytes, consoleText } from './console-text.ts'
export { testIdentity } from './test-identity.ts'
export { nameFault, type NameRule } from './name-rule.ts'
export { parseSiteRecord } from './site-record.ts'
export { requireCompletedEvent } from './completed-event.ts'
export { writeLandingInitrd } from './landing-initrd.ts'
export { sshInstaller } from './installers/ssh.ts'
