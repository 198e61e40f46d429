/**
 * Looks that are asked for in one turn of the event loop share one virsh: starting it costs more than what it asks, and a topology asks for several things of each VM.
 *
 * virsh goes on after a command that failed and answers with the last one's exit code, so only a process that complained of nothing counts. Otherwise both halves are asked again,
 * down to a look by itself, which has its own answer or error.
 */
import { randomUUID } from 'node:crypto'

/** Commands that change nothing, and may be asked twice. */
export interface Look {
  args: readonly string[]
  /** What is tried, for error messages: "look at the host". */
  what: string
  signal?: AbortSignal | undefined
}

export interface VirshResult {
  exitCode: number | null
  stdout: string
  stderr: string
}

interface Asked extends Look {
  done(answer: string): void
  fail(error: unknown): void
}

/** virsh takes its commands as one argument, and the kernel bounds that. */
const looksAProcess = 200

/**
 * @param together runs several commands, given as one script. It throws where virsh could not be run to its end.
 * @param alone asks once more, and throws what libvirt says.
 * @returns what asks: the answer without white space at its ends.
 */
export function askTogether(
  together: (script: string, options: Omit<Look, 'args'>) => Promise<VirshResult>,
  alone: (look: Look) => Promise<string>,
): (look: Look) => Promise<string> {
  let waiting: Asked[] = []

  const flush = () => {
    // Who cancels one must not end another's.
    const bySignal = Map.groupBy(waiting, ({ signal }) => signal)
    waiting = []
    for (const asked of bySignal.values())
      for (let first = 0; first < asked.length; first += looksAProcess) void answer(asked.slice(first, first + looksAProcess))
  }

  const answer = async (asked: readonly Asked[]): Promise<void> => {
    const [only] = asked
    if (only && asked.length === 1) return alone(only).then(only.done, only.fail)
    try {
      const answers = await sharedAnswers(asked)
      if (answers) return asked.forEach(({ done }, index) => done(answers[index]!))
    } catch (error) {
      return asked.forEach(({ fail }) => fail(error))
    }
    // Among many only the one that libvirt refuses comes to be asked by itself.
    const middle = Math.ceil(asked.length / 2)
    await Promise.all([answer(asked.slice(0, middle)), answer(asked.slice(middle))])
  }

  const sharedAnswers = async (asked: readonly Asked[]): Promise<string[] | null> => {
    const mark = `end-of-answer-${randomUUID()}`
    const script = asked.map(({ args }) => `${args.map(quoted).join(' ')}; echo ${mark}`).join('; ')
    const [{ what, signal }] = asked as [Asked, ...Asked[]]
    const { exitCode, stdout, stderr } = await together(script, { what: `${what}, and ${asked.length - 1} more`, signal })
    const answers = stdout.split(mark)
    const whole = exitCode === 0 && stderr.trim() === '' && answers.length === asked.length + 1
    return whole ? answers.slice(0, -1).map((text) => text.trim()) : null
  }

  return (look) =>
    new Promise((done, fail) => {
      if (waiting.length === 0) setImmediate(flush)
      waiting.push({ ...look, done, fail })
    })
}

/** For virsh's own parser, which takes quotes as a shell does. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`
}
