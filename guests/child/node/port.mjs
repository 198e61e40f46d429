/** The guest's end of the channel: one JSON message a line, both ways, many lines in one write. */
import { openSync, read, readSync, writeSync } from 'node:fs'

const newline = 10
/** A virtio port gives no more than a page at a time. */
const readBytes = 65_536
/** How long to wait where nobody is connected: then a read ends at once, as at the end of a file. Longer when it lasts: an abandoned child is not to keep a core busy. */
const absentMs = (times) => (times < 200 ? 2 : 50)
/** More than this is written even though something else may follow at once. */
const gatherBytes = 65_536
const again = ['EAGAIN', 'EINTR']
const nap = new Int32Array(new SharedArrayBuffer(4))

/** `path` is a device, or `fd:3` for what was inherited, whose end is the end of the process. */
export function openPort(path, onMessage) {
  const inherited = path.startsWith('fd:')
  const fd = inherited ? Number(path.slice(3)) : openSync(path, 'r+')
  const buffer = Buffer.allocUnsafeSlow(readBytes)
  let pieces = []
  let gathered = []
  let gatheredBytes = 0
  let scheduled = false
  let held = false
  let muted = false
  let lines = 0
  let absences = 0

  const next = () => read(fd, buffer, 0, readBytes, null, received)

  function received(error, length) {
    if (error && !again.includes(error.code)) throw error
    if (error || length === 0) {
      if (!error) nobodyThere()
      setTimeout(next, absentMs(absences++))
      return
    }
    absences = 0
    split(buffer.subarray(0, length))
    if (!held) next()
  }

  function nobodyThere() {
    if (inherited) process.reallyExit(0)
  }

  /** The next bytes, with this whole runtime standing still until they are there. */
  function readNow() {
    for (let times = 0; ; times++) {
      try {
        const length = readSync(fd, buffer, 0, readBytes, null)
        if (length > 0) return length
        nobodyThere()
      } catch (error) {
        if (!again.includes(error.code)) throw error
      }
      Atomics.wait(nap, 0, 0, absentMs(times))
    }
  }

  function split(chunk) {
    let from = 0
    for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, from)) {
      const line = chunk.toString('utf8', from, end)
      from = end + 1
      lines += 1
      if (pieces.length === 0) onMessage(JSON.parse(line))
      else {
        pieces.push(Buffer.from(chunk.subarray(0, end)))
        const whole = Buffer.concat(pieces).toString('utf8')
        pieces = []
        onMessage(JSON.parse(whole))
      }
    }
    if (from < chunk.length) pieces.push(Buffer.from(chunk.subarray(from)))
  }

  function flush() {
    scheduled = false
    if (gathered.length === 0) return
    let rest = Buffer.from(gathered.join(''), 'utf8')
    gathered = []
    gatheredBytes = 0
    while (rest.length > 0 && !muted) {
      try {
        rest = rest.subarray(writeSync(fd, rest))
      } catch (error) {
        if (!again.includes(error.code)) throw error
      }
    }
  }

  next()
  return {
    /** Queues a message, given as JSON text; it leaves with the next `flush`, at the latest at the end of this turn of the event loop. */
    post(json) {
      gathered.push(json, '\n')
      gatheredBytes += json.length
      if (gatheredBytes > gatherBytes) flush()
      else if (!scheduled) {
        scheduled = true
        setImmediate(flush)
      }
    },
    /** Writes what is queued, and returns when the machine's host has it. */
    flush,
    /** Called while a message is taken: no other is read until `waitForNext` or `goOn`. */
    hold() {
      held = true
    },
    /** What is posted while it is muted is lost. */
    mute(on) {
      flush()
      muted = on
    },
    /** Takes a message as if it had come. */
    take(message) {
      split(Buffer.from(`${JSON.stringify(message)}\n`))
    },
    /** Nothing else happens in this process until the next message, which is taken at once: a parent is saved in this wait, so that what its children do first is little. */
    waitForNext() {
      for (const before = lines; lines === before;) split(buffer.subarray(0, readNow()))
      this.goOn()
    },
    goOn() {
      held = false
      next()
    },
  }
}
