/**
 * What tasks have sent each other. Pure. All of it is kept until the receiver has ended, since a receiver that runs again is to find the same; what a sender that runs
 * again sends for the second time is dropped: it is the nth to that receiver, which is there.
 */
export interface Message {
  from: number
  to: number
  body: unknown
}

export interface Mailboxes {
  /** The task begins (again): what it finds in its box. */
  began(index: number): Message[]
  /** True where it is new, and to be delivered. Throws RangeError where more would be kept than the job may. */
  send(message: Message): boolean
  ended(index: number): void
}

export function createMailboxes(mostBytes: number): Mailboxes {
  const boxes = new Map<number, { message: Message; bytes: number }[]>()
  const sent = new Map<string, number>()
  const sentInRun = new Map<number, Map<number, number>>()
  const over = new Set<number>()
  let keptBytes = 0
  return {
    began(index) {
      sentInRun.delete(index)
      return (boxes.get(index) ?? []).map(({ message }) => message)
    },
    send(message) {
      const { from, to } = message
      const mine = sentInRun.get(from) ?? new Map<number, number>()
      sentInRun.set(from, mine)
      const nth = (mine.get(to) ?? 0) + 1
      mine.set(to, nth)
      const pair = `${from} ${to}`
      if (nth <= (sent.get(pair) ?? 0)) return false
      sent.set(pair, nth)
      if (over.has(to)) return false
      const bytes = Buffer.byteLength(JSON.stringify(message.body) ?? '')
      if (keptBytes + bytes > mostBytes) throw new RangeError(`The messages between tasks that have not ended exceed ${mostBytes} bytes.`)
      keptBytes += bytes
      boxes.set(to, [...(boxes.get(to) ?? []), { message, bytes }])
      return true
    },
    ended(index) {
      over.add(index)
      for (const { bytes } of boxes.get(index) ?? []) keptBytes -= bytes
      boxes.delete(index)
    },
  }
}
