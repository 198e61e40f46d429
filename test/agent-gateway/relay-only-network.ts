/**
 * Runs as `unshare --net node relay-only-network.ts`: this process, with gateway and relay, is in one network namespace, each of two real agents
 * in another. Each agent has a link to this one and none to the other, and nothing here forwards packets. Copies a disk, cuts the relayed connection,
 * copies what was changed meanwhile, and prints what happened as one line of JSON.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { memoryAuthorityStore } from '../../src/agent-gateway/authority-store.ts'
import { createAgentGateway } from '../../src/agent-gateway/gateway.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import type { AgentRole } from '../../src/transfer/control-protocol.ts'
import { attachLoop, detachLoop, type LoopDisk } from '../agents/agent-pair.ts'

export interface RelayOnlyOutcome {
  /** What each agent's machine gets when it dials the other's address. */
  direct: Record<AgentRole, string>
  via: string
  rootsEqual: boolean
  imagesEqual: boolean
  /** After the cut. */
  viaAgain: { rootsEqual: boolean; imagesEqual: boolean }
  relayedBytes: number
  /** Whether bytes that begin each block of the disk were ever seen by the relay. */
  plaintextSeen: boolean
}

const agentMain = join(import.meta.dirname, '../../src/agents/migration/main.ts')
const sites = {
  SOURCE: { here: '10.77.1.1', guest: '10.77.1.2', link: 'to-source' },
  DESTINATION: { here: '10.77.2.1', guest: '10.77.2.2', link: 'to-target' },
} as const
const secret = randomBytes(32)
const diskBytes = 16 << 20
const patience = { timeoutMs: 60_000 }
const undo: (() => unknown)[] = []

const ip = (...args: string[]) => execFileSync('ip', args)

/** A network namespace that lives as long as the returned process, with one link to ours. */
async function makeSite(role: AgentRole): Promise<number> {
  const { here, guest, link } = sites[role]
  const holder = spawn('unshare', ['--net', 'sh', '-c', 'ip link set lo up && echo up && exec sleep 600'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  undo.push(() => holder.kill('SIGKILL'))
  await once(holder.stdout, 'data')
  const pid = holder.pid!
  ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'guest0', 'netns', String(pid))
  ip('addr', 'add', `${here}/24`, 'dev', link)
  ip('link', 'set', link, 'up')
  inSite(pid, 'ip', 'addr', 'add', `${guest}/24`, 'dev', 'guest0')
  inSite(pid, 'ip', 'link', 'set', 'guest0', 'up')
  // A way out like a real guest's: the other's packets get as far as here, and no further.
  inSite(pid, 'ip', 'route', 'add', 'default', 'via', here)
  return pid
}
function inSite(pid: number, ...command: string[]): string {
  return execFileSync('nsenter', ['--net', '--target', String(pid), '--', ...command], { encoding: 'utf8' })
}
function dialFrom(pid: number, host: string): string {
  const script = `const s = require('node:net').connect(7443, '${host}'); const end = (what) => { console.log(what); process.exit() }
    s.on('connect', () => end('REACHED')).on('error', (error) => end(error.code)); setTimeout(() => end('SILENCE'), 1000)`
  return inSite(pid, process.execPath, '-e', script).trim()
}

/** Between an agent and the relay: sees what the relay sees. */
async function tap(host: string, relayPort: number, seen: { bytes: number; plaintext: boolean; cut: () => void }) {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    const onward = connect(relayPort, host)
    for (const [from, to] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      sockets.add(from)
      from.on('error', () => undefined)
      from.on('close', () => to.destroy())
      from.on('data', (chunk: Buffer) => {
        seen.bytes += chunk.length
        seen.plaintext ||= chunk.includes(secret)
      })
      from.pipe(to)
    }
  })
  server.listen(0, host)
  await once(server, 'listening')
  const before = seen.cut
  seen.cut = () => {
    before()
    for (const socket of sockets) socket.destroy()
  }
  undo.push(() => (seen.cut(), server.close()))
  return (server.address() as AddressInfo).port
}

function makeDisk(directory: string, name: string): LoopDisk {
  const imagePath = join(directory, `${name}.img`)
  closeSync(openSync(imagePath, 'w'))
  truncateSync(imagePath, diskBytes)
  const disk = attachLoop(imagePath)
  undo.push(() => detachLoop(disk))
  return disk
}
function write(disk: LoopDisk, content: Buffer, position: number): void {
  const file = openSync(disk.path, 'r+')
  writeSync(file, content, 0, content.length, position)
  fsyncSync(file)
  closeSync(file)
}

async function run(): Promise<RelayOnlyOutcome> {
  execFileSync('ip', ['link', 'set', 'lo', 'up'])
  const directory = mkdtempSync(join(tmpdir(), 'portolan-relay-only-'))
  undo.push(() => rmSync(directory, { recursive: true, force: true }))
  const pids = { SOURCE: await makeSite('SOURCE'), DESTINATION: await makeSite('DESTINATION') }
  const listen = [sites.SOURCE, sites.DESTINATION].map(({ here }) => ({ host: here, port: 0 }))
  const gateway = await createAgentGateway({
    listen,
    relayListen: listen,
    authorityStore: memoryAuthorityStore(),
    sealKey: sealKeyOf(Buffer.alloc(32, 5)),
    log: () => undefined,
  })
  undo.push(() => gateway.close())
  const migration = await gateway.openMigration('relay-only')
  const disks = { SOURCE: makeDisk(directory, 'source'), DESTINATION: makeDisk(directory, 'destination') }
  // Random, so that nothing is compressed and only encryption can hide it.
  const content = randomBytes(diskBytes / 2)
  for (let at = 0; at < content.length; at += 65_536) secret.copy(content, at)
  write(disks.SOURCE, content, 0)

  const seen = { bytes: 0, plaintext: false, cut: () => undefined as void }
  const relays = { SOURCE: { host: '', port: 0, token: '' }, DESTINATION: { host: '', port: 0, token: '' } }
  for (const [index, role] of (['SOURCE', 'DESTINATION'] as const).entries()) {
    const { here } = sites[role]
    relays[role] = { host: here, port: await tap(here, gateway.relayAddresses[index]!.port, seen), token: migration.relayToken }
    startAgent(role, pids[role], directory, JSON.stringify(migration.bootstrap(role, [gateway.addresses[index]!])))
  }
  const source = await migration.agent('SOURCE', patience)
  const destination = await migration.agent('DESTINATION', patience)
  await destination.request('transfer.connect', { listenPort: 7443, relay: relays.DESTINATION, timeoutMs: 30_000 }, patience)
  await destination.request('receive.start', { disk: disks.DESTINATION.name, empty: true }, patience)
  const direct = { SOURCE: dialFrom(pids.SOURCE, sites.DESTINATION.guest), DESTINATION: dialFrom(pids.DESTINATION, sites.SOURCE.guest) }
  const endpoints = [{ host: sites.DESTINATION.guest, port: 7443 }]
  const { via } = await source.request('transfer.connect', { endpoints, relay: relays.SOURCE, timeoutMs: 30_000 }, patience)
  await source.request('tracking.start', { disk: disks.SOURCE.name }, patience)

  const compared = async () => {
    const [ours, theirs] = [await source.request('root', {}, patience), await destination.request('root', {}, patience)]
    execFileSync('sync')
    const images = [disks.SOURCE, disks.DESTINATION].map(({ imagePath }) => readFileSync(imagePath))
    return { rootsEqual: ours.root === theirs.root, imagesEqual: images[0]!.equals(images[1]!) }
  }
  await source.request('round.run', { round: 1, mode: 'FULL' }, patience)
  const first = await compared()
  seen.cut()
  write(disks.SOURCE, randomBytes(1 << 20), diskBytes / 4)
  await source.request('round.run', { round: 2, mode: 'FULL' }, patience)
  return { direct, via, ...first, viaAgain: await compared(), relayedBytes: seen.bytes, plaintextSeen: seen.plaintext }
}

function startAgent(role: AgentRole, pid: number, directory: string, bootstrap: string): void {
  const own = join(directory, role)
  mkdirSync(own)
  writeFileSync(join(own, 'bootstrap.json'), bootstrap)
  const command = [
    '--net',
    '--target',
    String(pid),
    '--',
    process.execPath,
    '--report-exclude-network',
    agentMain,
    role,
    join(own, 'bootstrap.json'),
  ]
  const agent: ChildProcess = spawn('nsenter', command, { stdio: ['ignore', 'inherit', 'inherit'], cwd: own })
  undo.push(() => {
    const ended = once(agent, 'exit')
    agent.kill('SIGTERM')
    return ended
  })
}

async function cleanUp(): Promise<void> {
  for (const step of undo.splice(0).toReversed()) await step()
}

if (process.argv[1] === import.meta.filename) {
  process.once('SIGTERM', () => void cleanUp().finally(() => process.exit(1)))
  try {
    process.stdout.write(`${JSON.stringify(await run())}\n`)
  } finally {
    await cleanUp()
  }
}
