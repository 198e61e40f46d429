import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'
import { openSite } from '../../../plugins/libvirt/site.ts'

const vmId = '11111111-1111-4111-8111-111111111111'
const siteOf = () => openSite(libvirtOptions.parse({ uri: 'qemu:///session' }), () => undefined)

function openWork() {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { work: () => promise, end: resolve }
}

test('who is cancelled while waiting for a turn is told so at once', async () => {
  const site = siteOf()
  const first = openWork()
  const running = site.exclusively(vmId, undefined, first.work)
  const cancel = new AbortController()
  const waiting = site.once({ operationId: 'second', vmId, signal: cancel.signal }, async () => {})
  cancel.abort()
  await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' })
  first.end()
  await running
})

test('the same goes for the wait for an admission', async () => {
  const site = siteOf()
  const first = openWork()
  const running = site.admitting(undefined, first.work, async () => {})
  const cancel = new AbortController()
  const waiting = site.admitting(
    cancel.signal,
    async () => {},
    async () => {},
  )
  cancel.abort()
  await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' })
  first.end()
  await running
})

test('a turn that was cancelled is skipped, and the next one still waits for the one before', async () => {
  const site = siteOf()
  const done: string[] = []
  const first = openWork()
  const turns = [
    site.exclusively(vmId, undefined, first.work).then(() => done.push('first')),
    site.exclusively(vmId, AbortSignal.abort(), async () => done.push('cancelled')),
    site.exclusively(vmId, undefined, async () => done.push('last')),
  ]
  const settled = Promise.allSettled(turns)
  await setImmediate()
  expect(done).toEqual([])
  first.end()
  expect(await settled).toMatchObject([{ status: 'fulfilled' }, { reason: { code: 'CANCELLED' } }, { status: 'fulfilled' }])
  expect(done.toSorted()).toEqual(['first', 'last'])
})

test('work that has begun is waited for, also when it is cancelled', async () => {
  const site = siteOf()
  const first = openWork()
  const cancel = new AbortController()
  let isOver = false
  const running = site.exclusively(vmId, cancel.signal, first.work).then(() => (isOver = true))
  await setImmediate()
  cancel.abort()
  await setImmediate()
  expect(isOver).toBe(false)
  first.end()
  expect(await running).toBe(true)
})
