/** A forked child becomes itself: in the kernel by way of the process that waits for it since before the fork, then in this runtime. */
import { randomFillSync } from 'node:crypto'
import { openSync, readSync, writeSync } from 'node:fs'
import { drawAgain } from './randomness.mjs'

const answer = Buffer.alloc(1024)
const drawn = Buffer.alloc(16)

/** Gives what takes an IDENTITY message. Without `directory` the kernel is left alone, as it is outside a VM. */
export function openIdentity(directory) {
  if (directory === undefined) return drawAgain
  // Both ways, so that opening doesn't wait for the other side.
  const ask = openSync(`${directory}/identity.ask`, 'r+')
  const answers = openSync(`${directory}/identity.answer`, 'r+')
  const tell = (line) => {
    writeSync(ask, `${line}\n`)
    const text = answer.toString('utf8', 0, readSync(answers, answer)).trim()
    if (text !== 'ok') throw new Error(`This child could not take its identity: ${text}`)
  }
  return ({ id, name, mac, unixMs, entropy }) => {
    const began = performance.now()
    const secret = Buffer.from(entropy, 'base64').toString('hex')
    tell(`identity ${id} ${Buffer.from(name, 'utf8').toString('hex')} ${mac ?? '-'} ${secret} early`)
    // The clock stands before every reseeding of OpenSSL's: this draw makes its first generator take new entropy from the kernel, which all others notice.
    randomFillSync(drawn)
    tell(`clock ${Math.round(unixMs + performance.now() - began)}`)
    drawAgain()
  }
}
