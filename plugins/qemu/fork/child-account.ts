/** Under which account a child's process runs, and its NIC's address: both follow from its id. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'

/** Accounts from here on, which no system gives to anybody. The first is the group that may read what is saved. */
const firstUserId = 0x7000_0000
const userIds = 0x0100_0000

export const readersGroupId = firstUserId

/** Whether this process may start others under those accounts: it is root, and not of a container that has few of them. */
export async function canGiveAccounts(uidMapPath = '/proc/self/uid_map'): Promise<boolean> {
  if (process.getuid?.() !== 0) return false
  const ranges = (await readFile(uidMapPath, 'utf8'))
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
  return ranges.some(([inside = 0, , length = 0]) => inside <= firstUserId && inside + length >= firstUserId + userIds)
}

/** Another one for (nearly) every id, so that one VM's process has no power over another's. */
export function userIdOf(vmId: string): number {
  return firstUserId + 1 + (digestOf(vmId).readUInt32BE(0) % (userIds - 1))
}

export function macOf(vmId: string): string {
  return `52:54:00:${digestOf(vmId).subarray(4, 7).toString('hex').match(/../g)?.join(':')}`
}

function digestOf(vmId: string): Buffer {
  return createHash('sha256').update(vmId).digest()
}
