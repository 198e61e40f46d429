import { afterEach, expect, test } from 'vitest'
import { AgentError } from '../../src/agent-gateway/agent-error.ts'
import type { AgentSession } from '../../src/agent-gateway/agent-session.ts'
import { createFreezeLeases, type FreezeLeases } from '../../src/workflows/freeze-leases.ts'

const leaseMs = 20_000
const now = { monotonicMs: 1_000, uptimeMs: 9_000 }
let renewal: () => { held: boolean }
let leases: FreezeLeases

const session = {
  request: async (method: string) => (method === 'freeze' ? { frozen: ['/'], freezeMs: 1 } : renewal()),
} as unknown as AgentSession

async function begin() {
  renewal = () => ({ held: true })
  leases = createFreezeLeases(() => ({ ...now }))
  return leases.begin('f', session, leaseMs, new AbortController().signal)
}
afterEach(() => leases.close())

test('a lease that the agent renews holds through the suspension', async () => {
  const lease = await begin()
  now.monotonicMs += 15_000
  now.uptimeMs += 15_000
  expect(await lease.renew()).toBe(true)
  now.monotonicMs += 15_000
  now.uptimeMs += 15_000
  expect(lease.endAfterSuspension()).toBe(true)
})

test('a renewal that nobody answers is none, though the lease has time left', async () => {
  const lease = await begin()
  renewal = () => {
    throw new AgentError('TIMED_OUT', 'No answer.', { retryable: true })
  }
  expect(await lease.renew()).toBe(false)
  expect(lease.signal.aborted).toBe(false)
})

test('a lease that the agent calls lapsed is lapsed at once', async () => {
  const lease = await begin()
  renewal = () => ({ held: false })
  expect(await lease.renew()).toBe(false)
  expect(lease.signal.aborted).toBe(true)
})

test('a control plane whose machine slept through the lease does not vouch for it', async () => {
  const lease = await begin()
  expect(await lease.renew()).toBe(true)
  now.uptimeMs += leaseMs
  expect(lease.endAfterSuspension()).toBe(false)
})
