import { existsSync, readFileSync } from 'node:fs'
import { afterEach, describe, expect, test } from 'vitest'
import { createHookCommands } from '../../src/agents/migration/hook-command.ts'

const commands = createHookCommands()
afterEach(() => commands.close())
let ids = 0
const run = (command: string[], timeoutMs = 10_000, hookId = `hook-${ids++}`) =>
  commands.run({ hookId, command, timeoutMs, environment: { PORTOLAN_PHASE: 'FREEZE' } })

describe("an operator's command", () => {
  test('gets its arguments as they are, and an environment of its own', async () => {
    expect(await run(['printf', '%s|', '$HOME', 'a b', '; reboot', ''])).toEqual({
      exitCode: 0,
      timedOut: false,
      output: '$HOME|a b|; reboot||',
      outputBytes: 20,
    })
    const { output } = await run(['env'])
    expect(output).toContain('PORTOLAN_PHASE=FREEZE\n')
    expect(output).not.toContain('NODE')
  })

  test('keeps the end of 10 MiB of output', async () => {
    const { output, outputBytes, exitCode } = await run([
      'sh',
      '-c',
      'head -c 10485760 /dev/zero | tr "\\0" x; echo; echo the end >&2; exit 3',
    ])
    expect(exitCode).toBe(3)
    expect(outputBytes).toBe(10_485_760 + 9)
    expect(output).toHaveLength(16_384)
    expect(output).toMatch(/x\nthe end\n$/)
  })

  test('that never ends is killed with all that it started', async () => {
    const answer = await run(['sh', '-c', 'sleep 1000 & echo $!; wait'], 300)
    expect(answer).toMatchObject({ exitCode: null, timedOut: true })
    await expect.poll(() => isAlive(Number(answer.output))).toBe(false)
  })

  test('that leaves something behind does not wait for it', async () => {
    const { exitCode, output } = await run(['sh', '-c', 'sleep 1000 & echo $!'])
    expect(exitCode).toBe(0)
    process.kill(Number(output))
  })

  test('that does not exist answers as a shell would', async () => {
    expect(await run(['/no/such/program'])).toMatchObject({ exitCode: 127, output: expect.stringContaining('ENOENT') })
  })

  test('is not run twice under one id', async () => {
    const [first, second] = await Promise.all([run(['sh', '-c', 'echo $$'], 10_000, 'once'), run(['sh', '-c', 'echo $$'], 10_000, 'once')])
    expect(second).toEqual(first)
    expect(await run(['sh', '-c', 'echo $$'], 10_000, 'once')).toEqual(first)
  })
})

/** One that was killed stays as a zombie where nobody is there to reap it. */
function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'))
}
