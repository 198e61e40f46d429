import { createHash } from 'node:crypto'

/** The same one for the same id: of those that QEMU and others use for what nobody has numbered. */
export function macAddressOf(id: string): string {
  return `52:54:00:${createHash('sha256').update(id).digest('hex').slice(0, 6).match(/../g)!.join(':')}`
}
