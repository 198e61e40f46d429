/** Ordinary virtual machines: create and delete, power, isolation. One machine of the subject's image lives through the group. */
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { NewVirtualMachine, PowerState } from '../contract.ts'
import { nameFault } from '../name-rule.ts'
import { awaitGuest, hostileNames, killedAfter, newMachine, operation, type Session, type Suite, throughACrash } from './session.ts'

export function virtualMachineChecks(suite: Suite): void {
  const { check } = suite
  const { describe, expect } = suite.api
  let vmId: string
  let machine: NewVirtualMachine

  const create = async (
    session: Session,
    virtualMachine: NewVirtualMachine,
    imagePath: string,
  ): Promise<() => Promise<{ vmId: string }>> => {
    const { create: createMachine, delete: deleteMachine } = session.connection.virtualMachines
    if (!createMachine) throw new Error('virtualMachines.create is absent')
    const request = {
      ...operation(),
      virtualMachine,
      imagePath,
      inboundPorts: session.subject.guestHttp ? [session.subject.guestHttp.port] : [],
    }
    return async () => {
      const created = await createMachine(request)
      session.undo.push(async () => deleteMachine?.({ ...operation(), vmId: created.vmId }))
      return created
    }
  }
  const withUniqueId = async ({ connection }: Session, uniqueId: string) =>
    (await connection.discoverTopology({})).virtualMachines.filter((vm) => vm.uniqueId === uniqueId)
  const expectPower = async ({ connection }: Session, power: PowerState) =>
    expect((await connection.virtualMachines.describe({ vmId })).power).toBe(power)

  describe('a virtual machine made from an image', () => {
    const needs = { capabilities: ['virtualMachines.create', 'virtualMachines.delete'], subject: ['imagePath' as const] }

    check('is made once, though the plugin is killed in the middle and before its answer', needs, async (session) => {
      const imagePath = session.subject.imagePath ?? ''
      machine = await newMachine(session, imagePath, 'conformance')
      const call = await create(session, machine, imagePath)
      await killedAfter(suite, 100, call)
      vmId = (await throughACrash(suite, 'virtualMachines.create', call)).vmId
      expect(await withUniqueId(session, machine.uniqueId)).toHaveLength(1)
    })

    check('is described as it was ordered, alone and in the topology', needs, async (session) => {
      const described = await session.connection.virtualMachines.describe({ vmId })
      const { name, uniqueId, cpuCount, memoryBytes, firmware } = machine
      expect(described).toMatchObject({ id: vmId, name, uniqueId, cpuCount, memoryBytes, firmware })
      expect(described.disks).toMatchObject(machine.disks)
      expect(described.nics).toMatchObject(machine.nics)
      expect((await withUniqueId(session, machine.uniqueId)).map(({ id }) => id)).toEqual([vmId])
    })

    check('runs, and outlives the plugin', needs, async (session) => {
      await session.connection.virtualMachines.start({ ...operation(), vmId })
      await session.connected.crash.now()
      await expectPower(session, 'RUNNING')
      await awaitGuest(session, vmId)
    })

    check('shows its console as text', { ...needs, capabilities: [...needs.capabilities, 'virtualMachines.console'] }, async (session) => {
      const { text } = (await session.connection.virtualMachines.console?.({ vmId })) ?? { text: '' }
      expect(Buffer.byteLength(text)).toBeLessThanOrEqual(3 * 65_536)
      expect(text).not.toMatch(/[^\P{Cc}\t\n]/u)
    })

    check('is suspended and resumed', needs, async (session) => {
      for (const [act, power] of [
        ['suspend', 'SUSPENDED'],
        ['resume', 'RUNNING'],
      ] as const) {
        const request = { ...operation(), vmId }
        await throughACrash(suite, `virtualMachines.${act}`, () => session.connection.virtualMachines[act](request))
        await expectPower(session, power)
        await session.connection.virtualMachines[act]({ ...operation(), vmId })
        await expectPower(session, power)
      }
      await awaitGuest(session, vmId)
    })

    check('is not touched by a cancel that comes after the answer', needs, async (session) => {
      const cancel = new AbortController()
      await session.connection.virtualMachines.suspend({ ...operation(), vmId, signal: cancel.signal })
      cancel.abort()
      await expectPower(session, 'SUSPENDED')
      await session.connection.virtualMachines.resume({ ...operation(), vmId })
    })

    check(
      'is isolated and exposed, and can be health-checked in either state',
      { ...needs, capabilities: [...needs.capabilities, 'network.isolate', 'network.expose'] },
      async (session) => {
        for (const act of ['isolate', 'expose'] as const) {
          const request = { ...operation(), vmId }
          await throughACrash(suite, `network.${act}`, () => session.connection.network[act](request))
          await awaitGuest(session, vmId)
        }
      },
    )

    check('is stopped by force and started', needs, async (session) => {
      const stop = { ...operation(), vmId, force: true }
      await throughACrash(suite, 'virtualMachines.stop', () => session.connection.virtualMachines.stop(stop))
      await expectPower(session, 'STOPPED')
      const start = { ...operation(), vmId }
      await throughACrash(suite, 'virtualMachines.start', () => session.connection.virtualMachines.start(start))
      await expectPower(session, 'RUNNING')
    })

    check('is deleted while it runs, once and for all', needs, async (session) => {
      const request = { ...operation(), vmId }
      await throughACrash(suite, 'virtualMachines.delete', async () => session.connection.virtualMachines.delete?.(request))
      await expect(session.connection.virtualMachines.describe({ vmId })).rejects.toMatchObject({ code: 'NOT_FOUND' })
      expect(await withUniqueId(session, machine.uniqueId)).toEqual([])
    })
  })

  describe('a hostile name', () => {
    check(
      'is kept as it is, or refused with a typed error and nothing left',
      { capabilities: ['virtualMachines.create', 'virtualMachines.delete'] },
      async (session) => {
        const directory = await mkdtemp(join(tmpdir(), 'portolan-conformance-'))
        session.undo.push(() => rm(directory, { recursive: true, force: true }))
        const imagePath = join(directory, 'empty.raw')
        await writeFile(imagePath, '')
        await truncate(imagePath, 1024 * 1024)
        for (const name of hostileNames) {
          const hostile = { ...(await newMachine(session, imagePath, name)), memoryBytes: 131_064 * 1024 }
          const outcome = await (await create(session, hostile, imagePath))().catch((error: unknown) => error)
          const { nameRule } = session.connection.virtualMachines
          if (nameRule)
            expect(outcome instanceof Error, `${name} is refused where the provider's nameRule says so`).toBe(
              nameFault(nameRule, name) !== null,
            )
          if (outcome instanceof Error) {
            expect(outcome, name).toMatchObject({ code: expect.stringMatching(/^(INVALID_OPTIONS|UNSUPPORTED)$/) })
            expect(await withUniqueId(session, hostile.uniqueId), name).toEqual([])
          } else {
            const [found] = await withUniqueId(session, hostile.uniqueId)
            expect(found?.name).toBe(name)
            await session.connection.virtualMachines.delete?.({ ...operation(), vmId: found?.id ?? '' })
          }
        }
      },
    )
  })
}
