import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { signalProcess } from './kill.ts'

test('a process that has ended since it was listed gets no signal, and that is no fault', async () => {
  const child = spawn('sleep', ['60'])
  expect(signalProcess(child.pid!, 'SIGKILL')).toBe(true)
  await once(child, 'exit')
  expect(signalProcess(child.pid!, 'SIGKILL')).toBe(false)
})
