/** Our ids of what a cloud holds: the cloud's id, a slash, and the provider's id (which may hold slashes itself). */
export function rowIdOf(cloudId: string, providerId: string): string {
  return `${cloudId}/${providerId}`
}

export function providerIdOf(cloudId: string, rowId: string): string {
  if (!rowId.startsWith(`${cloudId}/`)) throw new Error(`${rowId} does not belong to cloud ${cloudId}.`)
  return rowId.slice(cloudId.length + 1)
}
