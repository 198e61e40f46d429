/** A virtual machine that was left becomes a destination again: given back as it was, or going on with what it received. */
import { stat } from 'node:fs/promises'
import type { AdoptRequest } from '../contract.ts'
import { dialsNobody } from './destination-checks.ts'
import { sha256 } from './disk-files.ts'
import { awaitGuest, killedAfter, newMachine, operation, type Session, type Suite, throughACrash } from './session.ts'

const fenceId = 'conformance-left'

export function adoptionChecks(suite: Suite): void {
  const { check } = suite
  const { describe, expect } = suite.api
  let vmId: string
  let own: { path: string; bytes: string } | undefined

  const needs = {
    capabilities: ['virtualMachines.create', 'virtualMachines.delete', 'destination.adopt.start', 'destination.adopt.giveBack'],
    subject: ['imagePath' as const, 'landing' as const],
  }

  const request = ({ subject, connection }: Session): AdoptRequest => ({
    ...operation(),
    vmId,
    fenceId: connection.fencing ? fenceId : null,
    landing: subject.landing!,
    inject: subject.inject ?? [dialsNobody],
    inboundPorts: subject.guestHttp ? [subject.guestHttp.port] : [],
  })
  const powerOf = async ({ connection }: Session) => (await connection.virtualMachines.describe({ vmId })).power
  const expectOwnDiskUnchanged = async () => {
    if (own) expect(await sha256(own.path), "the machine's own disk, compared from outside").toBe(own.bytes)
  }
  const bootTheCopy = async (session: Session) => {
    await session.connection.destination.sealCopiedDisks({ ...operation(), vmId })
    await session.connection.destination.bootFromCopiedDisk({ ...operation(), vmId })
    await awaitGuest(session, vmId)
    await expectOwnDiskUnchanged()
  }

  describe('a virtual machine that was left', () => {
    check('is adopted, off and fenced as it is, and given back with its own disk as it was', needs, async (session) => {
      const { connection, subject } = session
      const { virtualMachines, destination, fencing } = connection
      const virtualMachine = await newMachine(session, subject.imagePath, 'conformance-left')
      const ports = subject.guestHttp ? [subject.guestHttp.port] : []
      const asked = { ...operation(), virtualMachine, imagePath: subject.imagePath ?? '', inboundPorts: ports }
      vmId = (await virtualMachines.create!(asked)).vmId
      session.undo.push(async () => virtualMachines.delete!({ ...operation(), vmId }))
      await fencing?.fence({ ...operation(), vmId, fenceId })
      const left = await virtualMachines.describe({ vmId })
      const path = left.disks[0]?.backingPath
      const file = path === undefined ? undefined : await stat(path).catch(() => undefined)
      if (path !== undefined && file?.isFile()) own = { path, bytes: await sha256(path) }

      if (fencing)
        await expect(destination.adopt!.start({ ...request(session), fenceId: null })).rejects.toMatchObject({ code: 'CONFLICT' })
      const start = request(session)
      await killedAfter(suite, 300, () => destination.adopt!.start(start))
      await throughACrash(suite, 'destination.adopt.start', () => destination.adopt!.start(start))
      expect(await powerOf(session)).toBe('RUNNING')
      await bootTheCopy(session)

      const back = { ...operation(), vmId }
      await killedAfter(suite, 300, () => destination.adopt!.giveBack(back))
      await throughACrash(suite, 'destination.adopt.giveBack', () => destination.adopt!.giveBack(back))
      await destination.adopt!.giveBack({ ...operation(), vmId })
      expect(await virtualMachines.describe({ vmId })).toEqual(left)
      if (fencing) expect(await fencing.confirm({ vmId })).toMatchObject({ fenceId, fenced: true })
      await expectOwnDiskUnchanged()
    })

    check('goes on with what it received once it is exposed and flattened, and is not given back any more', needs, async (session) => {
      const { destination, network, virtualMachines } = session.connection
      await destination.adopt!.start(request(session))
      await bootTheCopy(session)
      await network.expose({ ...operation(), vmId })
      await expect(destination.adopt!.giveBack({ ...operation(), vmId })).rejects.toMatchObject({ code: 'CONFLICT' })
      const flatten = { ...operation(), vmId }
      await throughACrash(suite, 'destination.flattenOverlay', () => destination.flattenOverlay(flatten))
      await virtualMachines.stop({ ...operation(), vmId, force: true })
      await virtualMachines.start({ ...operation(), vmId })
      await destination.adopt!.giveBack({ ...operation(), vmId })
      expect(await powerOf(session)).toBe('RUNNING')
      await awaitGuest(session, vmId)
      await virtualMachines.delete!({ ...operation(), vmId })
    })
  })
}
