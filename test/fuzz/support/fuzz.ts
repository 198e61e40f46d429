/**
 * Fuzzing by two seeds: one that never changes, and the run's own (`PORTOLAN_TEST_SEED`, which test/run.ts sets and prints; the day's date otherwise). A failure prints its seed, its
 * path and the smallest input that still fails: `PORTOLAN_TEST_SEED=<seed> npm test -- test/fuzz` replays it.
 */
import { createHash } from 'node:crypto'
import * as fc from 'fast-check'
import { test } from 'vitest'

const runSeed = process.env['PORTOLAN_TEST_SEED'] ?? new Date().toISOString().slice(0, 10)
const seeds = { always: 20_261_122, [`PORTOLAN_TEST_SEED=${runSeed}`]: createHash('sha256').update(runSeed).digest().readInt32BE() }

/** Calls `check` with so many inputs of each seed. It throws where a parser does anything but give a value or its own kind of error. */
export function fuzz<Input>(what: string, inputs: fc.Arbitrary<Input>, check: (input: Input) => void | Promise<void>, runs = 500): void {
  test.for(Object.entries(seeds))(`${what} (%s)`, async ([, seed]) => {
    await fc.assert(
      fc.asyncProperty(inputs, async (input) => check(input)),
      { seed, numRuns: runs },
    )
  })
}

/** Gives what `parse` gives, or undefined where it throws an error for which `isExpected` holds. Anything else that it throws is thrown on. */
export function parsed<Value>(parse: () => Value, isExpected: (error: unknown) => boolean): Value | undefined {
  try {
    return parse()
  } catch (error) {
    if (isExpected(error)) return undefined
    throw error
  }
}

export const noise = fc.uint8Array({ maxLength: 2_000 }).map((bytes) => Buffer.from(bytes))

const interesting = fc.constantFrom(0, 1, 0x7f, 0x80, 0xff, 0x0a, 0x22, 0x5c, 0x7b, 0x5b)
const place = fc.double({ min: 0, max: 1, noNaN: true })
type ByteMutation = (bytes: Buffer) => Buffer
const byteMutation: fc.Arbitrary<ByteMutation> = fc.oneof(
  fc.tuple(place, interesting).map(([at, byte]): ByteMutation => (bytes) => {
    const changed = Buffer.from(bytes)
    if (changed.length > 0) changed[Math.floor(at * (changed.length - 1))] = byte
    return changed
  }),
  fc.tuple(place, fc.nat(7)).map(([at, bit]): ByteMutation => (bytes) => {
    const changed = Buffer.from(bytes)
    const index = Math.floor(at * (changed.length - 1))
    if (changed.length > 0) changed[index]! ^= 1 << bit
    return changed
  }),
  fc.tuple(place, place).map(
    ([from, to]): ByteMutation =>
      (bytes) =>
        Buffer.concat([bytes.subarray(0, from * bytes.length), bytes.subarray(to * bytes.length)]),
  ),
  fc.tuple(place, fc.uint8Array({ maxLength: 40 })).map(
    ([at, inserted]): ByteMutation =>
      (bytes) =>
        Buffer.concat([bytes.subarray(0, at * bytes.length), inserted, bytes.subarray(at * bytes.length)]),
  ),
)

/** Valid bytes as they are, or with a few bytes changed, cut out, doubled or slipped in; now and then mere noise. */
export function bytesLike(valid: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const changed = fc
    .tuple(valid, fc.array(byteMutation, { maxLength: 4 }))
    .map(([bytes, mutations]) => mutations.reduce((left, mutate) => mutate(left), bytes))
  return fc.oneof({ weight: 6, arbitrary: changed }, { weight: 1, arbitrary: noise })
}

/** Members that nobody sends by accident. */
const odd: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    '',
    -1,
    0.5,
    1e308,
    2 ** 53,
    '__proto__',
    [],
    {},
    [null],
    { toString: 1 },
    '\u0000',
    '\ud800',
    'x'.repeat(3_000),
  ),
  fc.jsonValue({ maxDepth: 2 }),
)
/** A text, or one that is nearly it. */
const textLike = (text: string): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 12, arbitrary: fc.constant(text) },
    { weight: 1, arbitrary: bytesLike(fc.constant(Buffer.from(text))).map((bytes) => bytes.toString('utf8')) },
  )
const crookedName = fc.constantFrom('__proto__', 'constructor', 'toString', 'length', '')

/** A JSON value with the shape of a valid one, in which some members are gone, odd, new or doubled, and some texts nearly as they were. */
export function jsonLike(valid: unknown): fc.Arbitrary<unknown> {
  const crooked = (value: unknown): fc.Arbitrary<unknown> =>
    fc.oneof({ weight: 8, arbitrary: inside(value) }, { weight: 1, arbitrary: odd })
  const inside = (value: unknown): fc.Arbitrary<unknown> => {
    if (Array.isArray(value))
      return fc.oneof(
        { weight: 4, arbitrary: fc.tuple(...value.map(crooked)) },
        { weight: 1, arbitrary: fc.nat(300).map((length) => Array.from({ length }, () => value[0] as unknown)) },
      )
    if (typeof value === 'string') return textLike(value)
    if (typeof value !== 'object' || value === null) return fc.constant(value)
    const members = Object.entries(value).map(([name, member]) =>
      fc.tuple(fc.constant(name), crooked(member), fc.integer({ min: 0, max: 15 })),
    )
    const added = fc.option(fc.tuple(crookedName, odd), { freq: 8 })
    return fc.tuple(fc.tuple(...members), added).map(([kept, extra]) =>
      // JSON.parse makes `__proto__` a member like any other, and so does fromEntries.
      Object.fromEntries([
        ...kept.filter(([, , dice]) => dice > 0).map(([name, member]) => [name, member] as const),
        ...(extra ? [extra] : []),
      ]),
    )
  }
  return crooked(valid)
}

/** Text of such a value, sometimes with its bytes changed as well. */
export function jsonTextLike(valid: unknown): fc.Arbitrary<Buffer> {
  return bytesLike(jsonLike(valid).map((value) => Buffer.from(JSON.stringify(value) ?? 'null')))
}
