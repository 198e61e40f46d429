/**
 * `npm run demo`: a busy Linux VM leaves one cloud and comes up in another of a different provider, driven through the GraphQL API only.
 *   --from east --to west   the direction (default); `--from west --to east` reverses it
 *   --tiny                  a smaller guest that boots faster
 *   --keep                  leaves all running until Ctrl-C, and prints the address of GraphiQL and the token
 *   --fault source-host     the source's host dies in mid-switchover: the verdict with its evidence, and the recovery (from east, tiny guest)
 *   --json                  the last line is one JSON object
 * `npm run demo -- job` is another one: see demo-job.ts.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { artifacts } from '../../setup/artifacts.ts'
import { ensureSetup } from '../../setup/setup.ts'
import { startControlPlane } from './control-plane-process.ts'
import { createSourceHostFault } from './demo-fault.ts'
import { connectCloud, migrate, readClouds, resultOf, workloadEndpoint } from './demo-migration.ts'
import { summary } from './demo-report.ts'
import { demoPlugins, openDemoSite } from './demo-site.ts'
import { createGraphqlClient } from './graphql-client.ts'
import { enterPrivateNetwork, isInPrivateNetwork } from './private-site/enter-private-network.ts'
import { findLibvirt } from './private-site/find-libvirt.ts'
import { offerPort, publishOnLoopback } from './publish-loopback.ts'
import { startRecordClient } from './record-client.ts'
import { runDemo, type Demo } from './run-demo.ts'

/** The demo's parts that run in the private network know by this variable where the machine's own loopback leads in. */
const publishVariable = 'PORTOLAN_DEMO_PUBLISH'
const permittedDowntimeMs = 120_000

// It ends the process by itself.
if (process.argv[2] === 'job') await import('./demo-job.ts')

const { values: options } = parseArgs({
  options: {
    from: { type: 'string', default: 'east' },
    to: { type: 'string', default: 'west' },
    tiny: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    fault: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
const directions = ['east', 'west']
const faultIsPossible = options.fault === undefined || (options.fault === 'source-host' && options.from === 'east')
if (
  options.help ||
  !faultIsPossible ||
  !directions.includes(options.from) ||
  !directions.includes(options.to) ||
  options.from === options.to
) {
  process.stderr.write(
    'usage: npm run demo -- [--from east --to west | --from west --to east] [--tiny] [--keep] [--json] [--fault source-host (from east)]\n       npm run demo -- job [--children N] [--out FILE] [--json]\n',
  )
  process.exit(options.help ? 0 : 2)
}

const say = (line: string) => process.stdout.write(`${line}\n`)
const demoStarted = performance.now()

/** Set-up, then the demo: with the user's own libvirt right here, else in a private network, whose API is published on this machine's loopback. */
async function outside() {
  await ensureSetup({ log: (line) => process.stderr.write(`${line}\n`) })
  const libvirt = await findLibvirt()
  if (libvirt !== null) return runDemo((demo) => story(libvirt.uri, demo), options)

  const directory = await mkdtemp(join(tmpdir(), 'portolan-demo-'))
  const socketPath = join(directory, 'api.sock')
  const published = options.keep ? await publishOnLoopback(socketPath, 0) : null
  try {
    const child = spawn(process.execPath, process.argv.slice(1), {
      stdio: 'inherit',
      env: { ...process.env, [publishVariable]: JSON.stringify({ socketPath, port: published?.port ?? null }) },
    })
    // A terminal's Ctrl-C reaches the child by itself too; there, the second one changes nothing.
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
    process.exitCode = await new Promise<number>((done) => child.on('exit', (code) => done(code ?? 1)))
  } finally {
    published?.server.close()
    await rm(directory, { recursive: true, force: true })
  }
}

async function story(libvirtUri: string | null, demo: Demo): Promise<void> {
  const { undo } = demo
  const directory = await mkdtemp(join(tmpdir(), 'portolan-site-'))
  undo.push(() => rm(directory, { recursive: true, force: true }))

  say('clouds: east (plugin qemu) and west (plugin libvirt)')
  const site = await openDemoSite(join(directory, 'site'), libvirtUri)
  undo.push(() => site.close())
  const source = options.from === 'east' ? site.east : site.west
  const destination = options.to === 'east' ? site.east : site.west

  say(`booting the source VM in ${source.name}: a Debian disk with its own boot loader`)
  const booting = site.bootSource(source, options.tiny || options.fault ? artifacts().tinyImage : artifacts().debianImage)
  booting.catch(() => {})
  const controlPlane = await startControlPlane(directory, {
    api: { host: '127.0.0.1', port: 0 },
    // Guests behind a bridge reach this machine at the bridge's address. In the private network, that is nobody else's.
    agents: {
      listen:
        libvirtUri === null ? [{ host: '0.0.0.0', port: 0 }] : ['127.0.0.1', ...site.agentAddresses].map((host) => ({ host, port: 0 })),
    },
    plugins: demoPlugins,
  })
  undo.push(() => controlPlane.stop())
  const vm = await booting
  say(`the source VM answers after ${(vm.bootMs / 1000).toFixed(1)} s, and is busy writing`)

  const api = createGraphqlClient(controlPlane.url, controlPlane.token)
  for (const cloud of [site.east, site.west]) await connectCloud(api, cloud)
  const clouds = await readClouds(api)
  for (const cloud of clouds)
    say(
      `topology: ${cloud.name} (${cloud.plugin?.pluginId}): ${cloud.virtualMachines.nodes.map(({ name, power }) => `${name} ${power}`).join(', ') || 'no VMs'}`,
    )
  const sourceVm = clouds.flatMap((cloud) => cloud.virtualMachines.nodes).find(({ uniqueId }) => uniqueId === vm.uniqueId)
  const destinationCloud = clouds.find(({ name }) => name === destination.name)
  if (sourceVm === undefined || destinationCloud === undefined)
    throw new Error('The API does not show the source VM or the destination cloud.')

  const fault = options.fault
    ? createSourceHostFault(api, String(source.options['stateDirectory']), (line) => say(`${elapsed()} ${line}`))
    : null
  const records = startRecordClient(vm.workload)
  undo.push(() => records.stop())
  const migration = await migrate(api, {
    sourceVirtualMachineId: sourceVm.id,
    destinationCloudId: destinationCloud.id,
    permittedDowntimeMs,
    say: (line) => say(`${elapsed()} ${line}`),
    progress: (line) => showProgress(line),
    ...(fault && { watch: fault.watch }),
  })
  records.moveTo(workloadEndpoint(migration, 8080))
  await new Promise((done) => setTimeout(done, 2_000))
  await records.stop()
  const result = await resultOf(migration, records, { source: source.pluginId, destination: destination.pluginId })
  demo.result = result
  say(summary(result))
  fault?.requireTold()
  if (!result.verified) throw new Error('The move could not be verified: see the summary.')
  if (options.keep) await keep(controlPlane.url, controlPlane.token)
}

const elapsed = () => `[${((performance.now() - demoStarted) / 1000).toFixed(0).padStart(3)} s]`

/** A terminal gets one line that changes; a log gets a line when something new is to be said. */
let lastShown = { line: '', at: 0 }
function showProgress(line: string) {
  if (process.stdout.isTTY) return void process.stdout.write(`\r\u001b[K${elapsed()} ${line}`)
  const samePhase = line.split(' · ')[0] === lastShown.line.split(' · ')[0]
  if (samePhase && performance.now() - lastShown.at < 2_000) return
  lastShown = { line, at: performance.now() }
  say(`${elapsed()} ${line}`)
}

async function keep(url: string, token: string) {
  const publish =
    process.env[publishVariable] === undefined ? null : (JSON.parse(process.env[publishVariable]) as { socketPath: string; port: number })
  if (publish !== null) await offerPort(publish.socketPath, Number(new URL(url).port))
  const address = publish === null ? url : `http://127.0.0.1:${publish.port}/graphql`
  say(`GraphiQL: ${address}#token=${token}\ntoken:    ${token}\nAll is left running. Ctrl-C ends it and cleans up.`)
  await new Promise(() => setInterval(() => {}, 60_000))
}

if (process.env[publishVariable] === undefined && !isInPrivateNetwork()) await outside()
else {
  await enterPrivateNetwork()
  await runDemo((demo) => story(null, demo), options)
}
