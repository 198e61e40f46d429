/** The most that an `Int` can say: in milliseconds, 24.8 days. */
const largestInt = 2 ** 31 - 1

/** For an `Int` that a value may exceed, or that it may be no whole number: either would make an error of the answer. Its description says "at most 2,147,483,647". */
export function cappedInt(value: number): number {
  return Math.min(Math.round(value), largestInt)
}
