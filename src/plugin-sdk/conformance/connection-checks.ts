/** Options, topology, and what doesn't exist. */
import type { Suite } from './session.ts'
import { hostileNames, operation } from './session.ts'

export function connectionChecks(suite: Suite): void {
  const { check } = suite
  const { describe, expect } = suite.api

  describe('options', () => {
    check(
      'are accepted as the subject gives them, and an unknown one is refused by name',
      { capabilities: [] },
      async ({ plugin, subject }) => {
        await plugin.validateOptions(subject.options)
        const refused = plugin.validateOptions({ ...subject.options, optionOfTheConformanceSuite: true })
        await expect(refused).rejects.toMatchObject({
          code: 'INVALID_OPTIONS',
          message: expect.stringContaining('optionOfTheConformanceSuite'),
        })
      },
    )
  })

  describe('topology', () => {
    check(
      'has ids that are unique, sizes in whole bytes, MACs in lower case',
      { capabilities: ['discoverTopology'] },
      async ({ connection }) => {
        const { regions, networks, virtualMachines } = await connection.discoverTopology({})
        const zones = regions.flatMap((region) => region.zones)
        const hosts = zones.flatMap((zone) => zone.hosts)
        for (const nodes of [regions, zones, hosts, networks, virtualMachines])
          expect(new Set(nodes.map(({ id }) => id)).size).toBe(nodes.length)
        const sizes = [...hosts, ...virtualMachines].map(({ memoryBytes }) => memoryBytes)
        sizes.push(...virtualMachines.flatMap(({ disks }) => disks.map(({ sizeBytes }) => sizeBytes)))
        for (const size of sizes) expect(Number.isSafeInteger(size) && size > 0).toBe(true)
        for (const nic of virtualMachines.flatMap(({ nics }) => nics)) expect(nic.mac).toMatch(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/)
        for (const vm of virtualMachines) expect(vm.uniqueId).toBe(vm.uniqueId.toLowerCase())
      },
    )
  })

  describe('a virtual machine that does not exist', () => {
    check('is NOT_FOUND', { capabilities: ['virtualMachines.describe'] }, async ({ connection, unknownVmId }) => {
      await expect(connection.virtualMachines.describe({ vmId: unknownVmId })).rejects.toMatchObject({
        code: 'NOT_FOUND',
        retryable: false,
      })
    })

    for (const act of ['start', 'suspend', 'resume'] as const)
      check(`can't ${act}: NOT_FOUND`, { capabilities: [`virtualMachines.${act}`] }, async ({ connection, unknownVmId }) => {
        await expect(connection.virtualMachines[act]({ ...operation(), vmId: unknownVmId })).rejects.toMatchObject({ code: 'NOT_FOUND' })
      })

    check('is deleted with success', { capabilities: ['virtualMachines.delete'] }, async ({ connection, unknownVmId }) => {
      await connection.virtualMachines.delete?.({ ...operation(), vmId: unknownVmId })
    })

    check('is deleted at the destination with success', { capabilities: ['destination.delete'] }, async ({ connection, unknownVmId }) => {
      await connection.destination.delete({ ...operation(), vmId: unknownVmId })
    })

    check('with a hostile id is a typed refusal', { capabilities: ['virtualMachines.describe'] }, async ({ connection }) => {
      for (const vmId of hostileNames)
        await expect(connection.virtualMachines.describe({ vmId }), vmId).rejects.toMatchObject({
          code: expect.stringMatching(/^(NOT_FOUND|INVALID_OPTIONS|UNSUPPORTED)$/),
        })
    })
  })

  describe('a cancelled call', () => {
    check('is not begun, and says so', { capabilities: ['discoverTopology'] }, async ({ connection }) => {
      await expect(connection.discoverTopology({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELLED' })
    })
  })
}
