import { defineConfig } from 'vitest/config'

// graphql must come from one module only; without these conditions Vite resolves a second copy.
const ssr = { resolve: { conditions: ['module-sync', 'node'] } }
const realMachines = ['test/scenarios/**/*.test.ts', 'test/conformance/**/*.test.ts']

export default defineConfig({
  test: {
    reporters: ['default'],
    projects: [
      { ssr, test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: realMachines, testTimeout: 60_000, hookTimeout: 60_000 } },
      {
        ssr,
        // Real VMs under software emulation: one file at a time on two cores, with time for a slow machine.
        test: { name: 'machines', include: realMachines, fileParallelism: false, testTimeout: 600_000, hookTimeout: 600_000 },
      },
    ],
  },
})
