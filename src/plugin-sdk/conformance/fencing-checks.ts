/** Fencing: what keeps a VM from running, over a crash of the plugin at every step. */
import type { FenceState } from '../contract.ts'
import { newMachine, operation, type Session, type Suite, throughACrash } from './session.ts'

export function fencingChecks(suite: Suite): void {
  const { check } = suite
  const { describe, expect } = suite.api
  const fenceId = `conformance-${operation().operationId}.1`
  let vmId: string

  const call = (act: 'arm' | 'fence' | 'release', as = fenceId) => {
    const { fencing } = suite.session().connection
    if (!fencing) throw new Error('fencing is absent')
    const request = { ...operation(), vmId, fenceId: as }
    return () => fencing[act](request)
  }
  const through = (act: 'arm' | 'fence' | 'release') => throughACrash(suite, `fencing.${act}`, call(act))
  const expectFence = async ({ connection }: Session, state: Partial<FenceState>) =>
    expect(await connection.fencing?.confirm({ vmId })).toMatchObject(state)
  const expectConflict = async (refused: Promise<unknown>, what: string) =>
    expect(refused, what).rejects.toMatchObject({ code: 'CONFLICT', retryable: false })

  describe('a fence', () => {
    const needs = {
      capabilities: [
        'fencing.arm',
        'fencing.fence',
        'fencing.confirm',
        'fencing.release',
        'virtualMachines.create',
        'virtualMachines.delete',
      ],
      subject: ['imagePath' as const],
    }

    check('that is armed lets a VM run on, be suspended and resumed, and never start', needs, async (session) => {
      const { virtualMachines } = session.connection
      const imagePath = session.subject.imagePath ?? ''
      const virtualMachine = await newMachine(session, imagePath, 'conformance-fence')
      vmId = (await virtualMachines.create!({ ...operation(), virtualMachine, imagePath, inboundPorts: [] })).vmId
      session.undo.push(async () => virtualMachines.delete?.({ ...operation(), vmId }))
      await expectFence(session, { fenceId: null, armed: false, fenced: false })
      await virtualMachines.start({ ...operation(), vmId })
      await through('arm')
      await expectFence(session, { fenceId, armed: true, fenced: false, power: 'RUNNING' })
      await virtualMachines.suspend({ ...operation(), vmId })
      await virtualMachines.resume({ ...operation(), vmId })
      await expectFence(session, { fenced: false, power: 'RUNNING' })
      await virtualMachines.stop({ ...operation(), vmId, force: true })
      await expectConflict(virtualMachines.start({ ...operation(), vmId }), 'starting it')
      await expectFence(session, { fenceId, armed: true, fenced: true, power: 'STOPPED' })
    })

    check("is not replaced by another one's, nor released by it", needs, async (session) => {
      for (const act of ['arm', 'fence'] as const) await expectConflict(call(act, 'of-another')(), `${act} by another`)
      await call('release', 'of-another')()
      await expectFence(session, { fenceId, armed: true })
    })

    check('is released, and the VM starts again', needs, async (session) => {
      await through('release')
      await call('release')()
      await expectFence(session, { fenceId: null, armed: false, fenced: false, power: 'STOPPED' })
      await session.connection.virtualMachines.start({ ...operation(), vmId })
    })

    check('keeps a suspended VM suspended, and it can be described in the topology as before', needs, async (session) => {
      const { virtualMachines, discoverTopology } = session.connection
      await virtualMachines.suspend({ ...operation(), vmId })
      const described = await virtualMachines.describe({ vmId })
      await through('fence')
      await expectFence(session, { fenceId, armed: true, fenced: true, power: 'SUSPENDED' })
      await expectConflict(virtualMachines.resume({ ...operation(), vmId }), 'resuming it')
      expect((await discoverTopology({})).virtualMachines.find(({ id }) => id === vmId)).toEqual(described)
      await through('release')
      await virtualMachines.resume({ ...operation(), vmId })
    })

    check('powers off a VM that runs, which can still be described, and deleted', needs, async (session) => {
      const { virtualMachines } = session.connection
      const described = await virtualMachines.describe({ vmId })
      await through('fence')
      await expectFence(session, { fenced: true, power: 'STOPPED' })
      expect(await virtualMachines.describe({ vmId })).toMatchObject({ name: described.name, disks: described.disks })
      await virtualMachines.stop({ ...operation(), vmId, force: true })
      await virtualMachines.delete!({ ...operation(), vmId })
      await expect(session.connection.fencing?.confirm({ vmId })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    })
  })
}
