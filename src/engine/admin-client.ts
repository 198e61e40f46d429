/** The engine's admin API, as far as one service needs it. */
export interface AdminClient {
  /**
   * Tells the engine where the service answers. `onlyDeployment`: the engine is ours alone, so a deployment that it knows already moves to the new address, with the
   * workflows that run on it. Otherwise the address is registered anew beside those of others.
   */
  register(serviceUrl: string, options: { onlyDeployment: boolean; signal: AbortSignal }): Promise<void>
}

export function createAdminClient(adminUrl: string): AdminClient {
  async function call(method: string, path: string, signal: AbortSignal, body?: unknown): Promise<string> {
    const response = await fetch(new URL(path, adminUrl), {
      method,
      signal,
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    if (!response.ok)
      throw new Error(`The engine's admin API at ${adminUrl} answered ${method} ${path} with ${response.status}: ${text.slice(0, 500)}`)
    return text
  }

  /** Ids of what the engine knows, each of them a safe part of a path. */
  async function deploymentIds(signal: AbortSignal): Promise<string[]> {
    const text = await call('GET', '/deployments', signal)
    const answer = asJson(text) as { deployments?: unknown } | null | undefined
    const deployments: unknown = answer?.deployments
    const ids = Array.isArray(deployments) ? deployments.map((one: { id?: unknown } | null) => one?.id) : [undefined]
    if (ids.every((id) => typeof id === 'string' && /^[\w-]{1,100}$/.test(id))) return ids as string[]
    throw new Error(
      `The engine's admin API at ${adminUrl} answered GET /deployments with what is no list of deployments: ${text.slice(0, 500)}`,
    )
  }

  return {
    async register(serviceUrl, { onlyDeployment, signal }) {
      if (onlyDeployment) {
        const ids = await deploymentIds(signal)
        for (const id of ids) await call('PATCH', `/deployments/${id}`, signal, { uri: serviceUrl, overwrite: true })
        if (ids.length > 0) return
      }
      await call('POST', '/deployments', signal, { uri: serviceUrl, force: true })
    },
  }
}

function asJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // as wrong as JSON of another form
  }
}
