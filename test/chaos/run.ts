/**
 * `npm run chaos`: real migrations of the tiny guest, with faults at random moments, and checks from outside.
 *   --runs N       how many (10)
 *   --seed S       of everything that is random (today's date)
 *   --from-run K   the first one's number (0): with `--runs 1` a failing run is repeated
 *   --shard i/n    of these runs only each nth, beginning with the ith
 *   --fault NAME   this fault only
 *   --state FILE   JSON lines, one a finished run; runs of this seed and commit that are there are not run again
 *   --patience N   time-outs are so many times as long, for a busy machine (1)
 *   --json         the last line, on standard output, holds all counts; a line on standard error tells what happens either way
 * The exit code is 0 only when all counts are zero.
 */
import { parseArgs } from 'node:util'
import { ensureSetup } from '../../setup/setup.ts'
import { enterPrivateNetwork } from '../../src/cli/private-site/enter-private-network.ts'
import { runCampaign } from './campaign.ts'
import { faults } from './faults.ts'
import { programCommit } from './program-commit.ts'

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '10' },
    seed: { type: 'string', default: new Date().toISOString().slice(0, 10) },
    'from-run': { type: 'string', default: '0' },
    shard: { type: 'string', default: '1/1' },
    fault: { type: 'string' },
    state: { type: 'string' },
    patience: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const say = (line: string) => process.stderr.write(`chaos: ${line}\n`)
const [shard = 1, shards = 1] = values.shard.split('/').map(Number)
const first = Number(values['from-run'])
const runs = Array.from({ length: Number(values.runs) }, (_, offset) => first + offset).filter((run) => run % shards === shard - 1)
if (values.help || runs.some(Number.isNaN) || !Number.isSafeInteger(shard) || !Number.isSafeInteger(shards)) {
  say('npm run chaos -- [--runs N] [--seed S] [--from-run K] [--shard i/n] [--fault NAME] [--state FILE] [--patience N] [--json]')
  process.exit(values.help ? 0 : 1)
}
if (values.fault !== undefined && !faults.some(({ name }) => name === values.fault)) {
  say(`There is no fault named '${values.fault}'. These there are: ${faults.map(({ name }) => name).join('; ')}.`)
  process.exit(1)
}

const commit = programCommit()
if (commit === null && values.state !== undefined) {
  say('Only runs of a commit are kept in a state file, and here is none, or something is changed that is not committed.')
  process.exit(1)
}

await ensureSetup({ log: say, tests: true })
await enterPrivateNetwork()
const interrupted = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => interrupted.abort(new Error(`Interrupted by ${signal}.`)))
const campaign = runCampaign({
  signal: interrupted.signal,
  seed: values.seed,
  runs,
  commit: commit ?? 'none',
  patience: Number(values.patience),
  say,
  ...(values.fault && { fault: values.fault }),
  ...(values.state && { stateFile: values.state }),
})
const { clean, ...totals } = await campaign.catch((error: unknown) => {
  if (!interrupted.signal.aborted) throw error
  say(`${(interrupted.signal.reason as Error).message} What was broken is healed, and all that was begun is removed.`)
  process.exit(1)
})
if (values.json) process.stdout.write(`${JSON.stringify(totals)}\n`)
process.exitCode = clean ? 0 : 1
