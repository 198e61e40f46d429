/** With the real virsh, whose driver `test` keeps a host with one domain in its own process; what it doesn't do on demand, with a fake. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, it, vi } from 'vitest'
import { askTogether, type VirshResult } from '../../../plugins/libvirt/asked-together.ts'

const virsh = async (...args: string[]): Promise<VirshResult> => {
  const asked = promisify(execFile)('virsh', ['--connect', 'test:///default', '--quiet', ...args])
  return asked.then(
    (output) => ({ exitCode: 0, ...output }),
    ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => ({ exitCode: code, stdout, stderr }),
  )
}
const alone = async ({ args }: { args: readonly string[] }) => {
  const { exitCode, stdout, stderr } = await virsh(...args)
  if (exitCode !== 0) throw new Error(stderr)
  return stdout.trim()
}
const ask = askTogether((script) => virsh(script), alone)
const look = (...args: string[]) => ask({ args, what: `ask ${args[0]}` })

describe('looks that are asked for together', () => {
  it('are each answered as if it were asked by itself', async () => {
    const together = await Promise.all([look('list', '--all', '--name'), look('nodeinfo'), look('domstate', '--domain', 'test')])
    const each = [await look('list', '--all', '--name'), await look('nodeinfo'), await look('domstate', '--domain', 'test')]
    expect(together).toEqual(each)
    expect(together[0]).toBe('test')
    expect(together[2]).toBe('running')
  })

  it('fail each for itself, and the others have their answers', async () => {
    const asked = [look('domstate', '--domain', 'test'), look('domstate', '--domain', 'absent'), look('net-dumpxml', '--network', 'absent')]
    const [state, domain, network] = await Promise.allSettled([...asked, look('hostname')])
    expect(state).toMatchObject({ status: 'fulfilled', value: 'running' })
    expect(domain).toMatchObject({
      status: 'rejected',
      reason: expect.objectContaining({ message: expect.stringMatching(/failed to get domain/) }),
    })
    expect(network).toMatchObject({
      status: 'rejected',
      reason: expect.objectContaining({ message: expect.stringMatching(/Network not found/) }),
    })
  })

  it('may name anything, and no name becomes a command', async () => {
    const names = [`a'b`, 'a"b', 'a b; list', '# a', String.raw`a\b`, '']
    const settled = await Promise.allSettled([...names.map((name) => look('echo', '--', name)), look('echo', 'last')])
    expect(settled.map((answer) => answer.status === 'fulfilled' && answer.value)).toEqual([...names, 'last'])
  })

  it('share a process, but for those with another signal; one that is cancelled ends no other', async () => {
    const run = vi.fn<(script: string, options: { signal?: AbortSignal | undefined }) => Promise<VirshResult>>(
      async (script, { signal }) => {
        if (signal?.aborted) throw new Error('cancelled')
        return {
          exitCode: 0,
          stderr: '',
          stdout: [...script.matchAll(/; echo (\S+?)(?=;|$)/g)].map(([, mark]) => `answer\n${mark}`).join(''),
        }
      },
    )
    const ask = askTogether(run, alone)
    const signal = AbortSignal.abort()
    const looks = [{}, { signal }, {}, { signal }].map((more, index) => ask({ args: [`look-${index}`], what: 'look', ...more }))
    const settled = await Promise.allSettled(looks)
    expect(settled.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected'])
    expect(run).toHaveBeenCalledTimes(2)
  })

  it('that end early, or with fewer answers than were asked for, are asked again', async () => {
    const ask = askTogether(
      async (script) => ({ exitCode: 0, stderr: '', stdout: `half\n${/echo (\S+?);/.exec(script)?.[1]}` }),
      async ({ args }) => `alone ${args[0]}`,
    )
    expect(await Promise.all([ask({ args: ['a'], what: 'look' }), ask({ args: ['b'], what: 'look' })])).toEqual(['alone a', 'alone b'])
  })

  it('of which one is refused by libvirt are halved: few processes for many looks', async () => {
    let processes = 0
    const ask = askTogether(
      async (script) => {
        processes++
        const marks = [...script.matchAll(/; echo (\S+?)(?=;|$)/g)].map(([, mark]) => mark)
        const refused = script.includes("'look-100'")
        return { exitCode: 0, stderr: refused ? 'error: no' : '', stdout: marks.map((mark) => `answer\n${mark}`).join('') }
      },
      async ({ args }) => (processes++, `alone ${args[0]}`),
    )
    const answers = await Promise.all(Array.from({ length: 128 }, (_, index) => ask({ args: [`look-${index}`], what: 'look' })))
    expect(answers[100]).toBe('alone look-100')
    expect(answers.filter((answer) => answer === 'answer').length).toBeGreaterThan(120)
    expect(processes).toBeLessThan(20)
  })
})
