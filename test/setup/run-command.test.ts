import { expect, test } from 'vitest'
import { runCommand } from '../../setup/run-command.ts'

test("a program's standard output is the result", async () => {
  expect(await runCommand('sh', ['-c', 'echo out; echo err >&2'])).toBe('out\n')
})

test('arguments reach the program as they are, without a shell', async () => {
  expect(await runCommand('printf', ['%s', '$(id); `id`'])).toBe('$(id); `id`')
})

test('a failure tells the exit code and what was printed last', async () => {
  await expect(runCommand('sh', ['-c', 'echo no room >&2; exit 3'])).rejects.toThrow('sh failed (exit code 3); it printed last:\nno room')
})

test('a program that does not exist is an error, not a hang', async () => {
  await expect(runCommand('portolan-no-such-program', [])).rejects.toThrow(/ENOENT/)
})

test('a program is ended by the signal, and by the time-out', async () => {
  const stop = new AbortController()
  const running = runCommand('sleep', ['60'], { signal: stop.signal })
  stop.abort()
  await expect(running).rejects.toThrow(/sleep failed/)
  await expect(runCommand('sleep', ['60'], { timeoutMs: 20 })).rejects.toThrow(/longer than 0\.02 s/)
})
