import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, test } from 'vitest'

const module = new URL('../../src/cli/run-demo.ts', import.meta.url).href

/** Runs a demo whose story is this source text, in a process of its own, since it ends that. */
async function demo(story: string): Promise<{ code: number; said: string }> {
  const source = `const { runDemo } = await import(${JSON.stringify(module)}); await runDemo(${story}, { json: true })`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', source], { env: { PATH: process.env['PATH'] } })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (said += text))
  const [code] = (await once(child, 'close')) as [number]
  return { code, said }
}

test('a story that was told to its end, and cleaned up, ends with 0', async () => {
  expect(await demo('async (demo) => { demo.undo.push(async () => {}); demo.result = { tasks: 1 } }')).toMatchObject({
    code: 0,
    said: expect.stringContaining('"tasks":1') as string,
  })
})

test('a story that fails after its result shows it, and ends with 1', async () => {
  const { code, said } = await demo('async (demo) => { demo.result = { tasks: 1 }; throw new Error("It was not sound.") }')
  expect(code).toBe(1)
  expect(said).toContain('demo: It was not sound.')
  expect(said).toContain('"tasks":1')
})

test('a step of the clean-up that fails is said, keeps no other from being done, and ends with 1', async () => {
  const { code, said } = await demo(
    'async (demo) => { demo.undo.push(async () => console.log("first"), () => Promise.reject(new Error("It is in use."))) }',
  )
  expect(code).toBe(1)
  expect(said).toContain('demo: clean-up: Error: It is in use.')
  expect(said).toContain('first')
})
