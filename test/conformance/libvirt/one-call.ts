/** Makes one call of the libvirt plugin in a process of its own, so that a test can kill it: `one-call.ts '{"uri", "call": ["destination", "delete"], "request"}'`. */
import plugin from '../../../plugins/libvirt/index.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'

const { uri, call, request } = JSON.parse(process.argv[2] ?? '') as {
  uri: string
  call: string[]
  request: Record<string, unknown>
}
const connection = await plugin.connect(libvirtOptions.parse({ uri }), { signal: new AbortController().signal, log: () => undefined })
type Members = { [name: string]: Members } & ((request: unknown) => Promise<unknown>)
const called = call.reduce((members, name) => members[name]!, connection as unknown as Members)
process.stdout.write(JSON.stringify((await called(request)) ?? null))
