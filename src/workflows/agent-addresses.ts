import type { AgentBootstrap } from '../transfer/control-protocol.ts'
import type { Endpoint, InjectedFile } from '../plugin-sdk/index.ts'
import type { MigrationSettings } from './migration-settings.ts'

/** Where an agent finds the control plane: hosts that the operator named, then the provider's suggestion, each with every port that the gateway listens on. */
export function agentAddresses(
  settings: Pick<MigrationSettings, 'advertise' | 'agentEndpoints'>,
  suggestedHost: string | null | undefined,
): Endpoint[] {
  return combine(hosts(settings.advertise, suggestedHost), settings.agentEndpoints)
}

/** Where an agent finds the relay; null when nobody knows an address of this machine. */
export function relayAddress(
  settings: Pick<MigrationSettings, 'advertise' | 'relayEndpoints'>,
  suggestedHost: string | null | undefined,
): Endpoint | null {
  // The provider's suggestion first: the agent takes one address here, and the provider knows its own network.
  return combine(hosts([], suggestedHost).concat(settings.advertise), settings.relayEndpoints)[0] ?? null
}

export function bootstrapFile(bootstrap: AgentBootstrap): InjectedFile {
  return { path: '/etc/portolan/bootstrap.json', content: JSON.stringify(bootstrap), mode: 0o600 }
}

function hosts(named: readonly string[], suggested: string | null | undefined): string[] {
  return [...named, ...(suggested ? [suggested] : [])]
}

function combine(names: readonly string[], endpoints: readonly Endpoint[]): Endpoint[] {
  const ports = [...new Set(endpoints.map(({ port }) => port))]
  return names.flatMap((host) => ports.map((port) => ({ host, port })))
}
