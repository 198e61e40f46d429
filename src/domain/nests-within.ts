/** Whether a JSON value has so many levels at most. Looks no deeper, since what a client sends may nest until the stack ends. */
export function nestsWithin(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return true
  return levels > 0 && Object.values(value).every((member) => nestsWithin(member, levels - 1))
}
