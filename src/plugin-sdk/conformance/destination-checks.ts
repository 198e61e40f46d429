/** A destination, from the landing image to the flattened disk, as a migration takes it there. The suite writes the image into the disk from outside. */
import { stat } from 'node:fs/promises'
import type { InjectedFile, InstantiateRequest } from '../contract.ts'
import { isAllZero, sha256, writeImage } from './disk-files.ts'
import { awaitGuest, killedAfter, newMachine, operation, type Session, type Suite, throughACrash } from './session.ts'

/** For a landing agent that is to wait: nobody listens there. */
export const dialsNobody: InjectedFile = {
  path: '/etc/portolan/bootstrap.json',
  mode: 0o600,
  content: JSON.stringify({
    migrationId: 'conformance',
    role: 'DESTINATION',
    controlPlane: [{ host: '127.0.0.1', port: 1 }],
    serverName: 'conformance.migration.portolan.internal',
    caCertificatePem: '',
    enrolmentToken: 'none',
  }),
}

export function destinationChecks(suite: Suite): void {
  const { check } = suite
  const { describe, expect } = suite.api
  let vmId: string
  let request: InstantiateRequest
  let verified: string | undefined

  /** Disk 0 as a file that can be compared from outside; undefined where the provider shows none. */
  const backingPath = async ({ connection }: Session): Promise<string | undefined> => {
    const { disks } = await connection.virtualMachines.describe({ vmId })
    const [disk] = disks
    const file = disk?.backingPath === undefined ? undefined : await stat(disk.backingPath).catch(() => undefined)
    return file?.isFile() && file.size === disk?.sizeBytes ? disk?.backingPath : undefined
  }
  const expectSealedBytesUnchanged = async (session: Session) => {
    const path = await backingPath(session)
    if (verified !== undefined && path !== undefined) expect(await sha256(path), 'the copied disk, compared from outside').toBe(verified)
  }

  describe('a destination', () => {
    const needs = {
      capabilities: ['destination.instantiate', 'destination.delete'],
      subject: ['landing' as const],
    }
    const needsImage = { ...needs, subject: ['landing' as const, 'imagePath' as const] }

    check(
      'is instantiated once, with empty disks, though the plugin is killed in the middle and before its answer',
      needs,
      async (session) => {
        const { subject, connection } = session
        if (!subject.landing) return
        request = {
          ...operation(),
          virtualMachine: await newMachine(session, subject.imagePath, 'conformance-destination'),
          landing: subject.landing,
          inject: subject.inject ?? [dialsNobody],
          inboundPorts: subject.guestHttp ? [subject.guestHttp.port] : [],
        }
        const call = async () => {
          const made = await connection.destination.instantiate(request)
          session.undo.push(() => connection.destination.delete({ ...operation(), vmId: made.vmId }))
          return made
        }
        await killedAfter(suite, 200, call)
        vmId = (await throughACrash(suite, 'destination.instantiate', call)).vmId
        const { uniqueId, name } = request.virtualMachine
        const all = (await connection.discoverTopology({})).virtualMachines.filter((vm) => vm.uniqueId === uniqueId)
        expect(all).toMatchObject([{ id: vmId, name, power: 'RUNNING', disks: request.virtualMachine.disks }])
        const path = await backingPath(session)
        if (path !== undefined) expect(await isAllZero(path), 'disk 0 is empty').toBe(true)
      },
    )

    check('is filled, as agents would', needsImage, async (session) => {
      const path = await backingPath(session)
      if (path === undefined) return
      await writeImage(session.subject.imagePath ?? '', path)
      verified = await sha256(path)
    })

    const needsTests = [...needs.capabilities, 'destination.testBoot.start', 'destination.testBoot.remove']
    check(
      'is booted for a test by a VM of its own, of which nothing stays',
      { ...needsImage, capabilities: needsTests },
      async (session) => {
        const { connection, subject } = session
        const testBoot = connection.destination.testBoot!
        const machines = async () => (await connection.discoverTopology({})).virtualMachines.map(({ id }) => id).toSorted()
        const [before, copy] = [await machines(), await connection.virtualMachines.describe({ vmId })]
        const start = { ...operation(), vmId, testId: 'conformance', inboundPorts: subject.guestHttp ? [subject.guestHttp.port] : [] }
        await killedAfter(suite, 300, () => testBoot.start(start))
        const { vmId: testVmId } = await throughACrash(suite, 'destination.testBoot.start', () => testBoot.start(start))
        expect(await testBoot.start({ ...start, ...operation() })).toEqual({ vmId: testVmId })
        const test = await connection.virtualMachines.describe({ vmId: testVmId })
        expect(test).toMatchObject({ power: 'RUNNING', uniqueId: expect.not.stringMatching(copy.uniqueId) })
        for (const { mac } of test.nics) expect(copy.nics.map((nic) => nic.mac)).not.toContain(mac)
        expect((await connection.network.reachability({ vmId: testVmId, guestPort: 22 })).controlPlaneFromGuest).toBeNull()
        await expect(connection.network.expose({ ...operation(), vmId: testVmId })).rejects.toMatchObject({ code: 'CONFLICT' })
        await expect(connection.destination.sealCopiedDisks({ ...operation(), vmId })).rejects.toMatchObject({ code: 'CONFLICT' })
        if (verified !== undefined) await awaitGuest(session, testVmId)
        await expectSealedBytesUnchanged(session)
        const remove = { ...operation(), vmId, testId: 'conformance' }
        await killedAfter(suite, 300, () => testBoot.remove(remove))
        await throughACrash(suite, 'destination.testBoot.remove', () => testBoot.remove(remove))
        await testBoot.remove({ ...remove, ...operation() })
        expect(await machines()).toEqual(before)
        expect((await connection.virtualMachines.describe({ vmId })).power).toBe('RUNNING')
        await expectSealedBytesUnchanged(session)
      },
    )

    check('seals its disks as they are', needsImage, async (session) => {
      const seal = { ...operation(), vmId }
      await throughACrash(suite, 'destination.sealCopiedDisks', () => session.connection.destination.sealCopiedDisks(seal))
      await expectSealedBytesUnchanged(session)
    })

    check('boots from the copied disk, isolated, and leaves the copied bytes alone', needsImage, async (session) => {
      const boot = { ...operation(), vmId }
      await throughACrash(suite, 'destination.bootFromCopiedDisk', () => session.connection.destination.bootFromCopiedDisk(boot))
      if (verified !== undefined) await awaitGuest(session, vmId)
      await expectSealedBytesUnchanged(session)
    })

    check('stays isolated, and on its own disk, over a power cut', needsImage, async (session) => {
      const { network, virtualMachines } = session.connection
      await virtualMachines.stop({ ...operation(), vmId, force: true })
      await virtualMachines.start({ ...operation(), vmId })
      expect((await network.reachability({ vmId, guestPort: 22 })).controlPlaneFromGuest).toBeNull()
      if (verified !== undefined) await awaitGuest(session, vmId)
      await expectSealedBytesUnchanged(session)
    })

    check(
      'goes back to the landing image, also from a kept copy that is off, with the copied bytes as they were, and forward again',
      needsImage,
      async (session) => {
        const off = () => session.connection.virtualMachines.stop({ ...operation(), vmId, force: true })
        await off()
        const discard = { ...operation(), vmId, inject: session.subject.inject ?? [dialsNobody] }
        await throughACrash(suite, 'destination.discardOverlay', () => session.connection.destination.discardOverlay(discard))
        await expectSealedBytesUnchanged(session)
        await off()
        await session.connection.destination.discardOverlay({ ...discard, ...operation() })
        expect((await session.connection.virtualMachines.describe({ vmId })).power).toBe('RUNNING')
        await expectSealedBytesUnchanged(session)
        await session.connection.destination.sealCopiedDisks({ ...operation(), vmId })
        await session.connection.destination.bootFromCopiedDisk({ ...operation(), vmId })
        if (verified !== undefined) await awaitGuest(session, vmId)
        await expectSealedBytesUnchanged(session)
      },
    )

    check(
      'is exposed only with its completed event',
      { ...needsImage, capabilities: [...needs.capabilities, 'records.put'] },
      async (session) => {
        const { network, records, virtualMachines } = session.connection
        const keyOf = (name: string) => `conformance/${vmId}/${name}`
        const write = (name: string, decision: string) =>
          records.put({ ...operation(), record: { key: keyOf(name), writtenAt: new Date().toISOString(), content: { decision } } })
        const expose = { ...operation(), vmId, completedEventKey: keyOf('outcome') }
        await write('outcome-of-another', 'COMMITTED')
        await write('abandoned', 'ABANDONED')
        for (const completedEventKey of [keyOf('outcome'), keyOf('abandoned')])
          await expect(network.expose({ ...expose, ...operation(), completedEventKey })).rejects.toMatchObject({ code: 'CONFLICT' })
        expect((await network.reachability({ vmId, guestPort: 22 })).controlPlaneFromGuest).toBeNull()
        await write('outcome', 'COMMITTED')
        await throughACrash(suite, 'network.expose', () => network.expose(expose))
        const exposed = (await network.reachability({ vmId, guestPort: 22 })).controlPlaneFromGuest
        await virtualMachines.stop({ ...operation(), vmId, force: true })
        await virtualMachines.start({ ...operation(), vmId })
        expect((await network.reachability({ vmId, guestPort: 22 })).controlPlaneFromGuest, 'over a power cut').toBe(exposed)
        if (verified !== undefined) await awaitGuest(session, vmId)
        const discard = { ...operation(), vmId, inject: session.subject.inject ?? [dialsNobody] }
        await expect(session.connection.destination.discardOverlay(discard), 'what it wrote since is kept').rejects.toMatchObject({
          code: 'CONFLICT',
        })
      },
    )

    check('is flattened while it runs', needsImage, async (session) => {
      const flatten = { ...operation(), vmId }
      await throughACrash(suite, 'destination.flattenOverlay', () => session.connection.destination.flattenOverlay(flatten))
      expect((await session.connection.virtualMachines.describe({ vmId })).power).toBe('RUNNING')
      if (verified !== undefined) await awaitGuest(session, vmId)
    })

    check('starts from its own disk after a power cut', needsImage, async (session) => {
      await session.connection.virtualMachines.stop({ ...operation(), vmId, force: true })
      await session.connection.virtualMachines.start({ ...operation(), vmId })
      if (verified !== undefined) await awaitGuest(session, vmId)
    })

    check('is deleted with its disks, once and for all', needs, async (session) => {
      const path = await backingPath(session)
      const remove = { ...operation(), vmId }
      await throughACrash(suite, 'destination.delete', () => session.connection.destination.delete(remove))
      await expect(session.connection.virtualMachines.describe({ vmId })).rejects.toMatchObject({ code: 'NOT_FOUND' })
      if (path !== undefined) await expect(stat(path)).rejects.toThrow('ENOENT')
    })
  })
}
