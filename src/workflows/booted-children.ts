/**
 * Children where nothing forks: virtual machines that boot their parent's files from RAM and warm up by themselves, made of nothing but what every provider has. Each is isolated
 * before anybody speaks with it, by mutual TLS under an authority of its own, of which nothing is stored.
 */
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import { makeCertificateAuthority } from '../agent-gateway/certificate-authority.ts'
import { PortolanError } from '../domain/errors.ts'
import type { ChildChannel } from '../job-environment/child-session.ts'
import type { InjectedFile, ProviderConnection } from '../plugin-sdk/index.ts'
import { failureOf } from './failure.ts'
import { macAddressOf } from './mac-address-of.ts'
import type { ChildImage } from './parent-image.ts'
import { wait } from './wait.ts'

interface BootedChild {
  /** A UUID, and the VM's unique id. */
  id: string
  image: ChildImage
  /** What its runtime is to have. */
  memoryBytes: number
  cpuCount: number
}

const channelPort = 7443
const serverName = 'child.portolan.internal'
const linkDirectory = '/image/portolan/link'
/** Providers want one. Nothing is ever on it. */
const diskBytes = 1 << 20
/** QEMU's, or whatever else runs a VM. */
const processBytes = 128 * 1024 ** 2
/** Where a provider doesn't tell how much memory is left. */
const roomUntold = 4
const connectTimeoutMs = 240_000
const connectAgainMs = 250
/** A machine that is killed says no farewell on the network. */
const powerLookMs = 3_000

/** Boots it; answers once it is isolated, and before it can be spoken with. */
export async function bootChild(connection: ProviderConnection, child: BootedChild, signal: AbortSignal): Promise<ChildChannel> {
  const { id, image, cpuCount } = child
  const [network] = (await connection.discoverTopology({ signal })).networks
  if (!network)
    throw new PortolanError(
      'UNSUPPORTED',
      'The cloud has no network, over which a child that boots there could be reached. None was made.',
      {
        retryable: true,
        remedy: 'Make a network there, or use a cloud that forks.',
      },
    )
  const memoryBytes = bootedBytes(child)
  const { files, client } = await makeLink(id)
  const { vmId } = await connection.destination.instantiate({
    operationId: `boot-${id}`,
    virtualMachine: {
      name: `portolan-child-${id}`,
      uniqueId: id,
      cpuCount,
      memoryBytes,
      firmware: 'BIOS',
      disks: [{ index: 0, sizeBytes: diskBytes }],
      nics: [{ index: 0, mac: macAddressOf(id), networkId: network.id }],
    },
    landing: { kernelPath: image.kernelPath, initrdPath: image.initrdPath, commandLine: image.commandLine, memoryBytes },
    inject: files,
    inboundPorts: [channelPort],
    signal,
  })
  await connection.network.isolate({ operationId: `isolate-${id}`, vmId, signal })
  return { connect: (connecting) => dial(connection, vmId, client, AbortSignal.any([signal, connecting])) }
}

/** Whether it is there or not, whole or half-made. */
export async function removeBootedChild(connection: ProviderConnection, id: string, signal?: AbortSignal): Promise<void> {
  const { virtualMachines } = await connection.discoverTopology({ ...(signal && { signal }) })
  const machine = virtualMachines.find(({ uniqueId }) => uniqueId === id)
  if (machine) await connection.destination.delete({ operationId: `delete-${id}`, vmId: machine.id, ...(signal && { signal }) })
}

/** How many fit now, and what bounds them. */
export async function roomForBooted(
  connection: ProviderConnection,
  child: Omit<BootedChild, 'id'>,
  signal: AbortSignal,
): Promise<{ room: number; bound: string }> {
  const { regions } = await connection.discoverTopology({ signal })
  const hosts = regions.flatMap(({ zones }) => zones.flatMap((zone) => zone.hosts))
  const bytes = bootedBytes(child) + processBytes
  const room = hosts.reduce(
    (sum, { freeMemoryBytes }) => sum + (freeMemoryBytes === undefined ? roomUntold : Math.floor(freeMemoryBytes / bytes)),
    0,
  )
  const mib = Math.ceil(bytes / 1024 ** 2)
  return { room, bound: `${room} more children fit that boot by themselves, which take ${mib} MiB each.` }
}

function bootedBytes({ image, memoryBytes }: Omit<BootedChild, 'id'>): number {
  return Math.ceil((memoryBytes + image.ramBytes) / 1024 ** 2) * 1024 ** 2
}

interface Client {
  ca: string
  key: string
  cert: string
}

/** The authority's own key is forgotten here. */
async function makeLink(id: string): Promise<{ files: InjectedFile[]; client: Client }> {
  const authority = await makeCertificateAuthority(id)
  const server = await authority.issueServer(serverName)
  const { publicKey, privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  })
  return {
    files: [
      { path: `${linkDirectory}/server.pem`, content: `${server.keyPem}\n${server.certificatePem}\n`, mode: 0o600 },
      { path: `${linkDirectory}/authority.pem`, content: `${authority.certificatePem}\n`, mode: 0o600 },
    ],
    client: { ca: authority.certificatePem, key: privateKey, cert: await authority.issueLeaf('CONTROL_PLANE', publicKey) },
  }
}

/** Again and again, while it boots. */
async function dial(connection: ProviderConnection, vmId: string, client: Client, signal: AbortSignal): Promise<Duplex> {
  const deadline = performance.now() + connectTimeoutMs
  for (;;) {
    const { fromControlPlane } = await connection.network.reachability({ vmId, guestPort: channelPort, signal })
    if (fromControlPlane) {
      const socket = connectTls({ ...fromControlPlane, ...client, servername: serverName, minVersion: 'TLSv1.3' })
      try {
        await once(socket, 'secureConnect', { signal: AbortSignal.any([signal, AbortSignal.timeout(10_000)]) })
        closeWhenOff(connection, vmId, socket.setNoDelay(true))
        return socket
      } catch {
        socket.destroy()
      }
    }
    signal.throwIfAborted()
    if (performance.now() > deadline)
      throw new Error(
        `The child did not answer within ${connectTimeoutMs / 1000} s of its boot${fromControlPlane ? '' : ', and has no address that can be reached'}.`,
      )
    await wait(connectAgainMs, signal)
  }
}

function closeWhenOff({ virtualMachines }: ProviderConnection, vmId: string, socket: Duplex): void {
  const look = setInterval(() => {
    virtualMachines.describe({ vmId }).then(
      ({ power }) => power === 'STOPPED' && socket.destroy(new Error('its virtual machine is off.')),
      // Who can't be asked tells nothing.
      (error: unknown) => failureOf(error).code === 'NOT_FOUND' && socket.destroy(new Error('its virtual machine is gone.')),
    )
  }, powerLookMs)
  socket.once('close', () => clearInterval(look))
}
