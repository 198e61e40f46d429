import type { ControlRequests } from '../../transfer/control-protocol.ts'

export type FixUpStep = ControlRequests['fixUp'][1]['steps'][number]

export async function fixUpDisk(devicePath: string, nics: { mac: string; name: string }[]): Promise<FixUpStep[]> {
  void devicePath
  void nics
  return []
}
