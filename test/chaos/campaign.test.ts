import { expect, test } from 'vitest'
import { runCampaign } from './campaign.ts'
import { programCommit } from './program-commit.ts'

/** Other runs every day; a failing one says how to have it again. */
const runs = 10
const runWithinMs = 15 * 60_000

test(
  'real migrations with faults at random moments: one live copy, nothing lost, the right verdict, nothing left behind',
  async () => {
    const said: string[] = []
    const totals = await runCampaign({
      seed: process.env['PORTOLAN_TEST_SEED'] ?? new Date().toISOString().slice(0, 10),
      runs: Array.from({ length: runs }, (_, run) => run),
      commit: programCommit() ?? 'none',
      patience: 2,
      say(line) {
        said.push(line)
        process.stderr.write(`chaos: ${line}\n`)
      },
    })
    expect(totals, said.join('\n')).toMatchObject({ clean: true, runs })
  },
  runs * runWithinMs,
)
