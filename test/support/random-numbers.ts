import { createHash } from 'node:crypto'

/** Random numbers that a failing test names the seed of, for `PORTOLAN_TEST_SEED=<seed>` to repeat them. */
export interface RandomNumbers {
  seed: string
  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number
  of<Item>(items: readonly Item[]): Item
  shuffled<Item>(items: readonly Item[]): Item[]
}

export function randomNumbers(seed = process.env['PORTOLAN_TEST_SEED'] ?? `${Date.now()}`): RandomNumbers {
  let state = createHash('sha256').update(seed).digest().readUInt32BE()
  // mulberry32
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return {
    seed,
    below,
    of: (items) => items[below(items.length)]!,
    shuffled: (items) =>
      items
        .map((item) => ({ item, at: next() }))
        .toSorted((a, b) => a.at - b.at)
        .map(({ item }) => item),
  }
}
