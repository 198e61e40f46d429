import { hash } from 'node:crypto'

export const digestBytes = 32

/** Named in the agents' negotiation. The first 256 bits of SHA-512: on a 64-bit CPU without SHA instructions it runs at twice the speed of SHA-256. */
export const digestName = 'sha512-first-256'

/** 32 bytes. The digest of all-zero data is not special here: callers give zero blocks `zeroDigest`. */
export function blockDigest(data: Uint8Array): Buffer {
  return hash('sha512', data, 'buffer').subarray(0, digestBytes)
}

/** Stands for an all-zero block, and for a subtree of them. */
export const zeroDigest: Buffer = Buffer.alloc(digestBytes)
