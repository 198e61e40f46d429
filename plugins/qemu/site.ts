import type { PluginLog } from '../../src/plugin-sdk/index.ts'
import type { HostFacts } from './command-line.ts'
import type { MachineStore } from './machine-store.ts'
import type { QemuOptions } from './options.ts'

/** What every capability works with: one connection's options, its VMs, and this machine. */
export interface Site {
  options: QemuOptions
  store: MachineStore
  host: HostFacts
  log: PluginLog
}
