/** Starts a private libvirt in the directory given, says so, and waits to be killed. */
import { startPrivateLibvirt } from '../../../src/cli/private-site/start-private-libvirt.ts'

const { uri } = await startPrivateLibvirt({ directory: process.argv[2] ?? '' })
process.stdout.write(`${uri}\n`)
setInterval(() => undefined, 60_000)
