import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { runCommand } from '../../setup/run-command.ts'
import type { RelayOnlyOutcome } from './relay-only-network.ts'

describe('two agents in networks that do not reach each other', () => {
  test('copy through the relay, which sees ciphertext only, and go on after the relayed connection was cut', async () => {
    const printed = await runCommand('unshare', ['--net', process.execPath, join(import.meta.dirname, 'relay-only-network.ts')])
    const outcome = JSON.parse(printed) as RelayOnlyOutcome
    expect(outcome).toMatchObject({
      via: 'RELAY',
      rootsEqual: true,
      imagesEqual: true,
      viaAgain: { rootsEqual: true, imagesEqual: true },
      plaintextSeen: false,
    })
    expect(Object.values(outcome.direct)).not.toContain('REACHED')
    // 8 MiB of the disk and the later change, seen at both ends of the relay.
    expect(outcome.relayedBytes).toBeGreaterThan(18 << 20)
  })
})
