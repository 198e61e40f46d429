/** The engine's admin API, as far as one service needs it. */
export interface AdminClient {
  /**
   * Tells the engine where the service answers. `onlyDeployment`: the engine is ours alone, so a deployment that it knows already moves to the new address, with the
   * workflows that run on it. Otherwise the address is registered anew beside those of others.
   */
  register(serviceUrl: string, options: { onlyDeployment: boolean; signal: AbortSignal }): Promise<void>
}

export function createAdminClient(adminUrl: string): AdminClient {
  async function call(method: string, path: string, signal: AbortSignal, body?: unknown): Promise<unknown> {
    const response = await fetch(new URL(path, adminUrl), {
      method,
      signal,
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    if (!response.ok)
      throw new Error(`The engine's admin API at ${adminUrl} answered ${method} ${path} with ${response.status}: ${text.slice(0, 500)}`)
    return text === '' ? null : JSON.parse(text)
  }

  return {
    async register(serviceUrl, { onlyDeployment, signal }) {
      if (onlyDeployment) {
        const { deployments } = (await call('GET', '/deployments', signal)) as { deployments: { id: string }[] }
        for (const { id } of deployments) await call('PATCH', `/deployments/${id}`, signal, { uri: serviceUrl, overwrite: true })
        if (deployments.length > 0) return
      }
      await call('POST', '/deployments', signal, { uri: serviceUrl, force: true })
    },
  }
}
