/** A forked child becomes itself: in the kernel by way of the process that waits for it since before the fork, then in this runtime. */
import { randomFillSync } from 'node:crypto'
import { existsSync, openSync, readSync, writeSync } from 'node:fs'
import { drawAgain } from './randomness.mjs'

const network = '/sys/class/net/eth0'
const answer = Buffer.alloc(1024)
const drawn = Buffer.alloc(16)

/** Gives what takes an IDENTITY message. Without `directory` the kernel is left alone, as it is outside a VM. */
export function openIdentity(directory) {
  if (directory === undefined) return drawAgain
  // Both ways, so that opening doesn't wait for the other side.
  const ask = openSync(`${directory}/identity.ask`, 'r+')
  const answers = openSync(`${directory}/identity.answer`, 'r+')
  const hasNetwork = existsSync(network)

  function tell(request) {
    writeSync(ask, request)
    const text = answer.latin1Slice(0, readSync(answers, answer))
    if (text !== 'ok') throw new Error(`This child could not take its identity: ${text}`)
  }

  function take({ id, name, mac, unixMs, entropy }) {
    const began = performance.now()
    tell(identityRequest({ id, name, mac: hasNetwork ? mac : null, entropy }))
    // The clock stands before every reseeding of OpenSSL's: this draw makes its first generator take new entropy from the kernel, which all others notice.
    randomFillSync(drawn)
    tell(clockRequest(unixMs + performance.now() - began))
    drawAgain()
  }

  return take
}

/** See identity.pl. */
function identityRequest({ id, name, mac, entropy }) {
  const entropyBytes = Buffer.byteLength(entropy, 'base64')
  const nameBytes = Buffer.byteLength(name)
  const request = Buffer.alloc(93 + 8 + entropyBytes + nameBytes + (mac === null ? 0 : 32))
  request[0] = 73
  request.writeUInt16BE(8 + entropyBytes, 1)
  request.writeUInt16BE(nameBytes, 3)
  request.writeUInt16BE(mac === null ? 0 : 32, 5)
  request.latin1Write(`${id.replaceAll('-', '')}\n${id}\n`, 7)
  // As far back as the kernel lets: it can't be before the machine began.
  request.writeUInt32LE(process.hrtime()[0] + 60, 77)
  // struct rand_pool_info: bits of entropy, all of it being new to this machine; bytes; the bytes.
  request.writeUInt32LE(8 * entropyBytes, 93)
  request.writeUInt32LE(entropyBytes, 97)
  request.base64Write(entropy, 101)
  request.utf8Write(name, 101 + entropyBytes)
  if (mac === null) return request
  // struct ifreq: the interface's name in 16 bytes, and an address of Ethernet's family.
  const at = 101 + entropyBytes + nameBytes
  request.latin1Write('eth0', at)
  request[at + 16] = 1
  request.hexWrite(mac.replaceAll(':', ''), at + 18)
  return request
}

function clockRequest(unixMs) {
  const request = Buffer.alloc(17)
  request[0] = 67
  // Seconds in 64 bits: those beyond 32 come into use in 2106.
  request.writeUInt32LE(Math.floor(unixMs / 1000), 1)
  request.writeUInt32LE(Math.floor((unixMs % 1000) * 1000), 9)
  return request
}
