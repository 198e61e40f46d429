/** How long the service may stand still where a switchover does not get on. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import type { CallHook } from './support/fake-clouds.ts'
import { expectMoved, quickTimings, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

let stage: MigrationStage
let hook: CallHook
beforeEach(async () => {
  hook = () => {}
  stage = await setMigrationStage({ hook: (call, when) => hook(call, when), timings: { agentMs: 10_000 } })
})
afterEach(() => stage.close())

const isHeld = () => {
  const { freeze } = stage.world.look().source
  return freeze !== null && !freeze.void && Date.now() < freeze.until
}

test('a source whose site falls silent as it is to be suspended thaws within its lease, and moves once the site is back', async () => {
  let silent = false
  hook = (call) => {
    if (call === 'east.suspend' && !stage.world.look().calls.includes('east.suspend')) silent = true
    if (silent && call.startsWith('east.')) throw new ProviderError('UNREACHABLE', 'No answer.', { retryable: true, remedy: 'Wait.' })
  }
  const end = stage.drive(stage.runner(), await stage.start())
  await vi.waitFor(() => expect(silent).toBe(true), 20_000)
  await vi.waitFor(() => expect(isHeld()).toBe(false), { timeout: 3 * quickTimings.leaseMs, interval: 20 })
  hook = () => {}
  expect(await end).toMatchObject({ state: 'COMPLETED' })
  await expectMoved(stage)
})

describe("a source whose destination's agent is gone for good once it is frozen", () => {
  test.each(['before the remainder', 'before the roots'])('is held no longer than the downtime may take: %s', async (moment) => {
    let frozenAt = 0
    let thawnAt = 0
    let sent = false
    let gone = false
    hook = async (call, when) => {
      if (call === 'SOURCE.freeze' && when === 'after') frozenAt ||= performance.now()
      if (call === 'SOURCE.round.run' && when === 'after' && frozenAt > 0) sent = true
      if (call === 'SOURCE.thaw' && when === 'before') thawnAt ||= performance.now()
      if (gone || call !== 'DESTINATION.agent' || !(moment === 'before the roots' ? sent : frozenAt > 0)) return
      gone = true
      await new Promise(() => {})
    }
    const id = await stage.start({ permittedDowntimeMs: 300 })
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
    expect(gone).toBe(true)
    expect(thawnAt - frozenAt).toBeLessThan(5_000)
    await expectMoved(stage)
  })
})
