/** Makes one call of the libvirt plugin in a process of its own, so that a test can kill it: `one-call.ts '{"uri", "call": ["destination", "delete"], "request"}'`. */
import plugin from '../../../plugins/libvirt/index.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'

const { uri, call, request } = JSON.parse(process.argv[2] ?? '') as {
  uri: string
  call: [string, string]
  request: Record<string, unknown>
}
const connection = await plugin.connect(libvirtOptions.parse({ uri }), { signal: new AbortController().signal, log: () => undefined })
const [group, name] = call
const capability = connection[group as keyof typeof connection] as unknown as Record<string, (request: unknown) => Promise<unknown>>
process.stdout.write(JSON.stringify((await capability[name]!(request)) ?? null))
