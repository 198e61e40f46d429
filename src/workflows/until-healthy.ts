import { connect } from 'node:net'
import { PortolanError } from '../domain/errors.ts'
import type { MigrationRequest } from '../domain/migration-request.ts'
import type { Endpoint } from '../plugin-sdk/index.ts'
import type { PhaseContext } from './phase.ts'
import { wait } from './wait.ts'

type HealthCheck = MigrationRequest['healthCheck']
const probeTimeoutMs = 5_000

/** A question to a port that is forwarded, or to an address that nobody has yet, is often lost, and hangs until its time is over: others are asked meanwhile, so many at most. */
const mostAtOnce = 10

/** Asks the isolated copy until it answers well; when that was asked, in ms since 1970. Throws PortolanError HEALTH_CHECK_FAILED after the check's time-out. */
export async function untilHealthy(context: PhaseContext, vmId: string, check: HealthCheck, signal: AbortSignal): Promise<number> {
  const until = performance.now() + check.timeoutMs
  const over = new AbortController()
  const asking = AbortSignal.any([signal, over.signal])
  const answered = Promise.withResolvers<number>()
  let underWay = 0
  let last = 'nothing answered'
  const ask = async () => {
    const askedAt = Date.now()
    underWay++
    try {
      await probe(await endpointOf(context, vmId, check.port, asking), check, asking)
      answered.resolve(askedAt)
    } catch (error) {
      last = error instanceof Error ? error.message : String(error)
    }
    underWay--
  }
  try {
    while (performance.now() < until) {
      if (underWay < mostAtOnce) void ask()
      const answeringAt = await Promise.race([answered.promise, wait(context.settings.timings.healthPollMs, signal).then(() => null)])
      if (answeringAt !== null) return answeringAt
    }
  } finally {
    over.abort()
  }
  throw new PortolanError(
    'HEALTH_CHECK_FAILED',
    `The copy did not pass its health check (${check.kind}, port ${check.port}) within ${check.timeoutMs} ms: ${last}. The source goes on.`,
    {
      retryable: false,
      remedy:
        'See what the service needs in its new place, then retry the migration; `changes.healthCheck` of `retryMigration` may allow the check more time.',
    },
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
  if (!response.ok) throw new Error(`it answered with status ${response.status}${pointsTo(response)}`)
}

/** Whatever the guest sends, in few characters, none of which would steer a terminal. */
function pointsTo({ headers }: Response): string {
  const location = headers
    .get('location')
    ?.replaceAll(/\p{Cc}/gu, ' ')
    .slice(0, 200)
  return location === undefined ? '' : `, which points to "${location}" and is not followed`
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
