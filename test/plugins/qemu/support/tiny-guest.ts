import { randomUUID } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { artifacts, guestMemoryBytes, readGuestAccess } from '../../../../setup/artifacts.ts'
import { openSshSession } from '../../../../src/plugin-sdk/installers/ssh-session.ts'
import { smallMachine, type TestCloud } from './cloud.ts'

export interface TinyGuest {
  vmId: string
  /** HTTP status of the workload's health page, through the provider's way in. */
  health(): Promise<number>
  /** Runs a shell script in the guest, as root. */
  run(script: string): Promise<{ exitCode: number; stdout: string }>
}

/** The set-up's tiny Debian, booted until its workload answers. */
export async function bootTinyGuest(cloud: TestCloud): Promise<TinyGuest> {
  const { tinyImage } = artifacts()
  const virtualMachine = smallMachine({ memoryBytes: guestMemoryBytes, disks: [{ index: 0, sizeBytes: (await stat(tinyImage)).size }] })
  const { create, start } = cloud.connection.virtualMachines
  if (!create) throw new Error('The plugin creates no virtual machines.')
  const { vmId } = await create({ operationId: randomUUID(), virtualMachine, imagePath: tinyImage, inboundPorts: [8080] })
  await start({ operationId: randomUUID(), vmId })
  const endpoint = async (guestPort: number) => {
    const { fromControlPlane } = await cloud.connection.network.reachability({ vmId, guestPort })
    if (!fromControlPlane) throw new Error(`Port ${guestPort} of the guest is not reached from here.`)
    return fromControlPlane
  }
  const health = async () => {
    const { host, port } = await endpoint(8080)
    return (await fetch(`http://${host}:${port}/health`, { signal: AbortSignal.timeout(10_000) })).status
  }
  const run = async (script: string) => {
    const session = await openSshSession({ endpoint: await endpoint(22), ...readGuestAccess() }, AbortSignal.timeout(120_000))
    try {
      return await session.run(script)
    } finally {
      await session.close()
    }
  }
  while ((await health().catch(() => 0)) !== 200) await delay(500)
  return { vmId, health, run }
}
