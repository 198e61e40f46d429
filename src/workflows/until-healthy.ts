import { connect } from 'node:net'
import { PortolanError } from '../domain/errors.ts'
import type { MigrationRequest } from '../domain/migration-request.ts'
import type { Endpoint } from '../plugin-sdk/index.ts'
import type { PhaseContext } from './phase.ts'
import { wait } from './wait.ts'

type HealthCheck = MigrationRequest['healthCheck']
const probeTimeoutMs = 5_000

/** Asks the isolated copy until it answers well; when that was asked, in ms since 1970. Throws PortolanError HEALTH_CHECK_FAILED after the check's time-out. */
export async function untilHealthy(context: PhaseContext, vmId: string, check: HealthCheck, signal: AbortSignal): Promise<number> {
  const until = performance.now() + check.timeoutMs
  let last = 'nothing answered'
  while (performance.now() < until) {
    const answeringAt = Date.now()
    try {
      await probe(await endpointOf(context, vmId, check.port, signal), check, signal)
      return answeringAt
    } catch (error) {
      signal.throwIfAborted()
      last = error instanceof Error ? error.message : String(error)
    }
    await wait(context.settings.timings.healthPollMs, signal)
  }
  throw new PortolanError(
    'HEALTH_CHECK_FAILED',
    `The copy did not pass its health check (${check.kind}, port ${check.port}) within ${check.timeoutMs} ms: ${last}. The source goes on.`,
    { retryable: false, remedy: 'See what the service needs in its new place, or allow the check more time.' },
  )
}

async function endpointOf(context: PhaseContext, vmId: string, guestPort: number, signal: AbortSignal): Promise<Endpoint> {
  const { network } = await context.destination()
  const { fromControlPlane } = await network.reachability({ vmId, guestPort, signal })
  if (fromControlPlane) return fromControlPlane
  throw new Error(`this machine doesn't reach port ${guestPort} of the copy`)
}

async function probe(endpoint: Endpoint, check: HealthCheck, signal: AbortSignal): Promise<void> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(probeTimeoutMs)])
  if (check.kind === 'TCP') return probeTcp(endpoint, limited)
  const host = endpoint.host.includes(':') ? `[${endpoint.host}]` : endpoint.host
  // Put together as text: a path such as //elsewhere must not name another host.
  const response = await fetch(`http://${host}:${endpoint.port}${check.path}`, { signal: limited, redirect: 'manual' })
  await response.body?.cancel()
  if (response.status >= 400) throw new Error(`it answered with status ${response.status}`)
}

function probeTcp({ host, port }: Endpoint, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, signal })
    socket.once('error', reject)
    socket.once('connect', () => {
      // A port that is forwarded accepts for a guest that isn't there, and drops at once.
      const settled = setTimeout(() => (socket.destroy(), resolve()), 300)
      socket.once('close', () => (clearTimeout(settled), reject(new Error('the connection was dropped'))))
    })
  })
}
