import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'

const plugin = resolve(import.meta.dirname, '../../../../plugins/qemu/index.ts')
const schema = resolve(import.meta.dirname, '../../../../plugins/qemu/options.ts')

/** Makes the call in a process of its own, and kills that process after the delay: before, during or after the work. */
export async function killDuring(stateDirectory: string, method: string, request: object, delayMs: number): Promise<void> {
  const script = `
    const { default: qemu } = await import(${JSON.stringify(plugin)})
    const { qemuOptions } = await import(${JSON.stringify(schema)})
    const options = qemuOptions.parse(${JSON.stringify({ stateDirectory, accelerator: 'tcg' })})
    const connection = await qemu.connect(options, { signal: new AbortController().signal, log() {} })
    const call = ${JSON.stringify(method)}.split('.').reduce((found, name) => found[name], connection)
    console.log('connected')
    await call(${JSON.stringify(request)})
    setTimeout(() => {}, 600_000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  try {
    await Promise.race([once(child.stdout, 'data'), exited])
    if (child.exitCode !== null) throw new Error(`The process that was to be killed ended by itself with ${child.exitCode}.`)
    await new Promise((done) => setTimeout(done, delayMs))
  } finally {
    child.kill('SIGKILL')
    await exited
  }
}
