/** Forking: one parent, booted, warmed and saved, and its children, over a crash of the plugin at every step. */
import { setTimeout as delay } from 'node:timers/promises'
import type { ChildDescription, ChildLimits, ForkCapability, SavedParent } from '../contract-fork.ts'
import { sha256 } from './disk-files.ts'
import { hostileNames, killedAfter, operation, type Session, type Suite, throughACrash } from './session.ts'

const mebibyte = 1024 * 1024

export function forkChecks(suite: Suite): void {
  const { check } = suite
  const { describe, expect } = suite.api
  const parentId = `conformance-${operation().operationId}`
  const childOf = (name: string) => `${parentId.slice(0, 40)}-${name}`
  let saved: SavedParent

  const forkOf = ({ connection }: Session): ForkCapability => {
    if (!connection.fork) throw new Error('fork is absent')
    return connection.fork
  }
  const subjectOf = ({ subject }: Session) => {
    if (!subject.parent) throw new Error('the subject gives no parent')
    return subject.parent
  }
  const requestFor = (session: Session, name: string, paused = false) => {
    const { memoryBytes } = subjectOf(session)
    const limits: ChildLimits = {
      memoryBytes: memoryBytes + 128 * mebibyte,
      cpuShare: 1,
      diskBytes: 16 * mebibyte,
      network: 'NONE',
      maxLifetimeMs: 10 * 60_000,
    }
    return { ...operation(), parentId, childId: childOf(name), limits, paused }
  }
  const fork = async (session: Session, request: ReturnType<typeof requestFor>) => {
    session.undo.push(() => forkOf(session).deleteChild({ ...operation(), childId: request.childId }))
    return forkOf(session).forkChild(request)
  }
  const children = async (session: Session): Promise<ChildDescription[]> =>
    (await forkOf(session).listChildren({})).filter((child) => child.parentId === parentId)
  const stateOf = async (session: Session, name: string) =>
    (await children(session)).find(({ childId }) => childId === childOf(name))?.state
  const expectParentUnchanged = async (session: Session) => {
    expect(await forkOf(session).describeParents({})).toContainEqual({ ...saved, childCount: (await children(session)).length })
    const files = subjectOf(session).savedFiles?.(parentId)
    if (!files) return
    expect(await sha256(files.ram), "the parent's memory, compared from outside").toBe(saved.ramSha256)
    expect(await sha256(files.disk), "the parent's disk, compared from outside").toBe(saved.diskSha256)
  }

  describe('a parent', () => {
    const needs = {
      capabilities: ['bootParent', 'saveParent', 'describeParents', 'deleteParent', 'forkChild', 'listChildren', 'deleteChild'].map(
        (member) => `fork.${member}`,
      ),
      subject: ['parent' as const],
    }

    check('boots once, though the plugin is killed in the middle and before its answer', needs, async (session) => {
      const { image, memoryBytes, cpuCount = 1, warmUp } = subjectOf(session)
      const request = { ...operation(), parentId, image, memoryBytes, cpuCount }
      session.undo.push(() => forkOf(session).deleteParent({ ...operation(), parentId }))
      await killedAfter(suite, 60, () => forkOf(session).bootParent(request))
      const { channel } = await throughACrash(suite, 'fork.bootParent', () => forkOf(session).bootParent(request))
      await warmUp(channel)
      expect((await forkOf(session).describeParents({})).map((parent) => parent.parentId)).not.toContain(parentId)
      const early = forkOf(session).forkChild(requestFor(session, 'early'))
      await expect(early, 'a child of what is not saved').rejects.toMatchObject({ code: 'NOT_FOUND' })
    })

    check('is saved once, and described', needs, async (session) => {
      const request = { ...operation(), parentId }
      await killedAfter(suite, 30, () => forkOf(session).saveParent(request))
      saved = await throughACrash(suite, 'fork.saveParent', () => forkOf(session).saveParent(request))
      expect(saved).toMatchObject({ parentId, childCount: 0 })
      for (const digest of [saved.ramSha256, saved.diskSha256]) expect(digest).toMatch(/^[0-9a-f]{64}$/)
      await session.connected.crash.now()
      await expectParentUnchanged(session)
    })

    check('tells how many children fit', { ...needs, capabilities: [...needs.capabilities, 'fork.capacity'] }, async (session) => {
      const { children: count, freeMemoryBytes, perChildBytes, reason } = await forkOf(session).capacity({ parentId })
      expect(count).toBe(Math.floor(freeMemoryBytes / perChildBytes))
      expect(reason).toMatch(/^[A-Z0-9].*\.$/)
    })

    check('forks a child once, which outlives the plugin', needs, async (session) => {
      const request = requestFor(session, 'one')
      for (const afterMs of [5, 40]) await killedAfter(suite, afterMs, () => fork(session, request))
      const { channel, mac } = await throughACrash(suite, 'fork.forkChild', () => fork(session, request))
      if (mac !== null) expect(mac).toMatch(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/)
      await subjectOf(session).exercise(channel)
      await session.connected.crash.now()
      expect(await children(session)).toMatchObject([{ childId: request.childId, state: 'RUNNING', memoryBytes: expect.any(Number) }])
      await subjectOf(session).exercise(channel)
      await expectParentUnchanged(session)
    })

    check('forks ten siblings at once, which write to memory and disk, and is as it was', needs, async (session) => {
      const names = Array.from({ length: 10 }, (_, index) => `sibling-${index}`)
      const forked = await Promise.all(names.map((name) => fork(session, requestFor(session, name))))
      expect(new Set(forked.map(({ channel }) => channel.path)).size).toBe(names.length)
      for (const { channel } of forked) await subjectOf(session).exercise(channel)
      expect((await children(session)).map(({ state }) => state)).toEqual(Array.from({ length: 11 }, () => 'RUNNING'))
      await expectParentUnchanged(session)
    })

    check(
      'forks a child that stands still until it is resumed',
      { ...needs, capabilities: [...needs.capabilities, 'fork.resumeChild'] },
      async (session) => {
        const { channel } = await fork(session, requestFor(session, 'paused', true))
        const answer = subjectOf(session).exercise(channel)
        expect(await Promise.race([answer, delay(1_000, 'it stands still')])).toBe('it stands still')
        expect(await stateOf(session, 'paused')).toBe('PAUSED')
        const resume = { ...operation(), childId: childOf('paused') }
        await throughACrash(suite, 'fork.resumeChild', () => forkOf(session).resumeChild(resume))
        await answer
        expect(await stateOf(session, 'paused')).toBe('RUNNING')
        await forkOf(session).resumeChild({ ...resume, ...operation() })
      },
    )

    check('is not deleted while it has children', needs, async (session) => {
      await expect(forkOf(session).deleteParent({ ...operation(), parentId })).rejects.toMatchObject({ code: 'CONFLICT' })
      await expectParentUnchanged(session)
    })

    check('is as it was when its children are deleted, once and for all', needs, async (session) => {
      const remove = { ...operation(), childId: childOf('one') }
      await killedAfter(suite, 10, () => forkOf(session).deleteChild(remove))
      await throughACrash(suite, 'fork.deleteChild', () => forkOf(session).deleteChild(remove))
      const left = await children(session)
      expect(left).toHaveLength(11)
      await Promise.all(left.map(({ childId }) => forkOf(session).deleteChild({ ...operation(), childId })))
      expect(await children(session)).toEqual([])
      await expectParentUnchanged(session)
    })

    check('is deleted, once and for all', needs, async (session) => {
      const remove = { ...operation(), parentId }
      await throughACrash(suite, 'fork.deleteParent', () => forkOf(session).deleteParent(remove))
      expect((await forkOf(session).describeParents({})).map((parent) => parent.parentId)).not.toContain(parentId)
      await expect(forkOf(session).forkChild(requestFor(session, 'orphan'))).rejects.toMatchObject({ code: 'NOT_FOUND' })
    })

    check('with a hostile id is a typed refusal', needs, async (session) => {
      for (const hostile of hostileNames) {
        const refused = forkOf(session).forkChild({ ...requestFor(session, 'hostile'), childId: hostile, parentId: hostile })
        await expect(refused, hostile).rejects.toMatchObject({ code: expect.stringMatching(/^(NOT_FOUND|INVALID_OPTIONS|UNSUPPORTED)$/) })
        await forkOf(session).deleteChild({ ...operation(), childId: hostile })
        await forkOf(session).deleteParent({ ...operation(), parentId: hostile })
      }
    })
  })
}
