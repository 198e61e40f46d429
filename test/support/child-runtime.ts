/** The other end of a child's channel, for tests: sends what the control plane would, and waits for what comes. */
import { createChildLines } from '../../src/transfer/child-lines.ts'
import { encodeToChild, parseFromChild, type ChildTask, type FromChild, type ToChild } from '../../src/transfer/child-messages.ts'

type Type = FromChild['type']
type Of<Wanted extends Type> = Extract<FromChild, { type: Wanted }>

export interface ChildChannel {
  say(...messages: ToChild[]): void
  /** Runs tasks together, from this index on, with these inputs. */
  run(first: number, ...inputs: unknown[]): void
  /** The next message of that type that nobody has taken yet. */
  next<Wanted extends Type>(type: Wanted): Promise<Of<Wanted>>
  /** How the task ended. */
  end(index: number): Promise<Of<'RESULT'> | Of<'TASK_FAILED'>>
  /** All there is of that type so far, taken or not. */
  all<Wanted extends Type>(type: Wanted): Of<Wanted>[]
}

interface Stream {
  write(text: string): unknown
  on(event: 'data', listener: (chunk: Buffer) => void): unknown
}

export function childChannel(stream: Stream, waitMs: number): ChildChannel {
  const lines = createChildLines()
  const seen: FromChild[] = []
  const untaken: FromChild[] = []
  const waiting = new Set<() => void>()
  stream.on('data', (chunk) => {
    for (const line of lines.push(chunk)) {
      const message = parseFromChild(line)
      seen.push(message)
      untaken.push(message)
    }
    for (const look of waiting) look()
  })

  function taken<Message extends FromChild>(what: string, fits: (message: FromChild) => message is Message): Promise<Message> {
    return new Promise((done, fail) => {
      const timer = setTimeout(() => {
        waiting.delete(look)
        fail(new Error(`No ${what} within ${waitMs} ms; there was ${JSON.stringify(untaken).slice(0, 2_000)}`))
      }, waitMs)
      const look = () => {
        const message = untaken.find(fits)
        if (message === undefined) return
        untaken.splice(untaken.indexOf(message), 1)
        waiting.delete(look)
        clearTimeout(timer)
        done(message)
      }
      waiting.add(look)
      look()
    })
  }

  const say = (...messages: ToChild[]) => void stream.write(messages.map(encodeToChild).join(''))
  return {
    say,
    run(first, ...inputs) {
      const tasks = inputs.map((input, offset): ChildTask => ({ index: first + offset, attempt: 1, input, interactsWith: [] }))
      say({ type: 'COMPONENT', tasks })
    },
    next: (type) => taken(type, (message): message is Of<typeof type> => message.type === type),
    end: (index) =>
      taken(
        `end of task ${index}`,
        (message): message is Of<'RESULT'> | Of<'TASK_FAILED'> =>
          (message.type === 'RESULT' || message.type === 'TASK_FAILED') && message.index === index,
      ),
    all: (type) => seen.filter((message): message is Of<typeof type> => message.type === type),
  }
}
