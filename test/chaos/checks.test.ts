import { expect, test } from 'vitest'
import { checkAcknowledged, checkRemains } from './checks.ts'
import { planRun } from './plan.ts'
import { newResult } from './result.ts'

test('a run in which next to nothing was acknowledged tells nothing of lost records', () => {
  const checked = (recordsAcknowledged: number) => {
    const result = { ...newResult(planRun('a seed', 0), 'a commit'), recordsAcknowledged }
    checkAcknowledged(result)
    return result.unresolved
  }
  expect([0, 2, 3, 200].map(checked)).toEqual([1, 1, 0, 0])
})

test('of a copy that was kept its landing image, overlay and isolated network may remain; of one that moved, or of another machine, none of these', () => {
  const kept = '1e487b05-ef16-4eb9-912a-b79f09872195'
  const volumes = ['disk-0.raw', 'console.log', 'disk-0.overlay.qcow2', 'landing-initrd', 'landing-kernel'].map(
    (name) => `volume demo-1-${kept}-${name}`,
  )
  const remaining = [...volumes, `network portolan-isolated-${kept}`]
  const leaked = (keptCopy: string | null, present: string[]) => {
    const result = newResult(planRun('a seed', 0), 'a commit')
    checkRemains(['volume of another'], ['volume of another', ...present], keptCopy, result)
    return result.leaks
  }
  expect(leaked(kept, remaining)).toBe(0)
  expect(leaked(null, remaining)).toBe(4)
  expect(leaked('0d1e2f30-2222-4222-8333-444455556666', remaining)).toBe(4)
  expect(leaked(kept, [...remaining, `volume demo-1-${kept}-disk-1.overlay.qcow2`, 'network portolan-isolated-of-a-test'])).toBe(2)
})
