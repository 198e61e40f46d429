import { tmpdir } from 'node:os'
import { expect, test } from 'vitest'
import { killDestinationAgent } from './destination-agent.ts'
import type { Stage } from './stage.ts'

const uniqueId = 'the-copy'

/** A destination in SYNC whose machine has no control socket; its power is what each look in turn says, the last one for ever. */
function destinationWith(...powers: string[]): Stage {
  const discoverTopology = async () => ({
    virtualMachines: [{ id: 'vm', uniqueId, power: powers.length > 1 ? powers.shift() : powers[0] }],
  })
  const connection = { discoverTopology, virtualMachines: { console: async () => ({ text: '' }) } }
  return {
    scenario: { destination: { pluginId: 'qemu', connection }, vm: { uniqueId }, progress: async () => ({ phase: 'SYNC' }) },
    site: { directory: tmpdir() },
  } as unknown as Stage
}

test('a machine that the other fault ends just then has no agent to be killed', async () => {
  expect(await killDestinationAgent(destinationWith('RUNNING', 'STOPPED'), 'migration')).toBe(false)
})

test('nobody finds an agent while the control plane is gone', async () => {
  const stage = destinationWith('RUNNING')
  stage.scenario.progress = () => Promise.reject(new Error('Nobody answers.'))
  expect(await killDestinationAgent(stage, 'migration')).toBe(false)
})

test('a machine that runs on and whose cable can not be pulled ends the run', async () => {
  await expect(killDestinationAgent(destinationWith('RUNNING'), 'migration')).rejects.toThrow(/control socket/)
})
