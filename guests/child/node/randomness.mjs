/**
 * Random state that lives in the runtime, and so would be the same in every child of one parent: made ours before any program is loaded, and drawn anew in each child.
 *
 * OpenSSL's own generators can't be told to reseed from here. But each of them does when the clock is before its last reseeding, which the first of them passes on to those of
 * all threads: see identity.mjs.
 */
import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'

const { randomFillSync, randomInt, randomUUID, webcrypto } = crypto

const state = new Uint32Array(4)

/** sfc32. V8's own can't be seeded again; a reference to this one that somebody kept is reseeded, too. */
function next() {
  const sum = (state[0] + state[1] + state[3]) | 0
  state[3] = state[3] + 1
  state[0] = state[1] ^ (state[1] >>> 9)
  state[1] = state[2] + (state[2] << 3)
  state[2] = ((state[2] << 21) | (state[2] >>> 11)) + sum
  return sum >>> 0
}

function random() {
  return ((next() >>> 5) * 67_108_864 + (next() >>> 6)) / 9_007_199_254_740_992
}

/** Node draws these ahead. As long as nobody has asked, there are none of the parent's to be used up. */
let numbersKept = false
let uuidsKept = false
const kept = { numbers: 1024, uuids: 128 }

/** To be called once, before any program is loaded. */
export function takeOverRandomness() {
  randomFillSync(state)
  Object.defineProperty(Math, 'random', { value: random, writable: true, configurable: true, enumerable: false })
  crypto.randomInt = function randomIntOfChild(...args) {
    numbersKept = true
    return randomInt(...args)
  }
  crypto.randomUUID = function randomUUIDOfChild(...args) {
    uuidsKept = true
    return randomUUID(...args)
  }
  const ofWeb = webcrypto.randomUUID
  Object.getPrototypeOf(webcrypto).randomUUID = function randomUUIDOfChild() {
    uuidsKept = true
    return ofWeb.call(this)
  }
  syncBuiltinESMExports()
}

/** After OpenSSL has reseeded. */
export function drawAgain() {
  randomFillSync(state)
  if (numbersKept) for (let count = 0; count < kept.numbers; count++) randomInt(2)
  if (uuidsKept) for (let count = 0; count < kept.uuids; count++) randomUUID()
}
