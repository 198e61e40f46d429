import { defineConfig } from 'vitest/config'
import { rotating } from './test/support/rotating.ts'

// graphql must come from one module only; without these conditions Vite resolves a second copy.
const ssr = { resolve: { conditions: ['module-sync', 'node'] } }
const realMachines = ['test/scenarios/**/*.test.ts', 'test/conformance/**/*.test.ts', 'test/chaos/campaign.test.ts']

/**
 * Minutes of real machines each. Of each list one comes a run, day by day in turn; all of them in `npm run test:full`, or when one is named. What takes longest there is beside
 * what takes least here: the longest list's length is a multiple of the others'.
 */
const inTurn = [
  // Each breaks real migrations or jobs, or leads them through what few of them need.
  [
    'scenarios/killed-in-each-phase',
    'scenarios/upgraded-while-running',
    'scenarios/writes-too-fast',
    'scenarios/link-cut-and-cancel',
    'scenarios/group',
    'scenarios/source-frozen',
    'scenarios/child-guest',
    'scenarios/job-extremes',
    'scenarios/destination-agent-lost',
    'scenarios/carry-back',
    'scenarios/verdict-after-database-lost',
    'scenarios/job-without-forking',
    'conformance/qemu-fork',
    'scenarios/refused-before-anything-changes-full-disk',
    'scenarios/hooks-and-re-ip',
    'scenarios/demo-source-host',
    'scenarios/kept-copy',
    'scenarios/control-groups-version-2',
    'scenarios/ssh-installer',
    'scenarios/excluded-directories',
  ],
  // The contract's own suites, and what else has much to ask of both clouds; in the campaign, which always comes, both take part.
  ['conformance/libvirt', 'conformance/qemu', 'scenarios/job', 'scenarios/refused-before-anything-changes'],
  // What the contract's own suite doesn't ask of libvirt.
  [
    'conformance/libvirt/adopt',
    'conformance/libvirt/isolation',
    'conformance/libvirt/kill-at-every-call',
    'conformance/libvirt/over-ssh',
    'conformance/libvirt/storages',
  ],
].map((names) => names.map((name) => `test/${name}.test.ts`))
// Not its command, whose name is a part of a file's.
const filters = process.argv.slice(2).filter((argument) => argument !== 'run' && !argument.startsWith('-'))
const named = filters.some((filter) => inTurn.flat().some((file) => file.includes(filter)))
const notThisTime = named ? [] : inTurn.flatMap((files) => files.filter((file) => !rotating(files).includes(file)))

export default defineConfig({
  test: {
    reporters: ['default'],
    projects: [
      {
        ssr,
        test: {
          name: 'unit',
          // Vitest leaves one processor free: half of a small machine. Most tests wait rather than compute.
          maxWorkers: '100%',
          include: ['test/**/*.test.ts'],
          exclude: realMachines,
          testTimeout: 60_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        ssr,
        // Real VMs under software emulation: after the others, one file at a time on two cores, with time for a slow machine.
        test: {
          name: 'machines',
          include: realMachines,
          exclude: notThisTime,
          fileParallelism: false,
          testTimeout: 600_000,
          hookTimeout: 600_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
