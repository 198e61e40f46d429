/** What the engine's journal says: it is kept in RocksDB's log files, compressed, where a search for text finds nothing. */
import { zstdDecompressSync } from 'node:zlib'

/** https://github.com/facebook/rocksdb/wiki/Write-Ahead-Log-File-Format: blocks of records, each with checksum, length and type before it. */
const blockBytes = 32_768
const headerBytes = 7
const [full, first, middle, last] = [1, 2, 3, 4]
/** Each record is a frame of its own. */
const zstdMagic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd])

/** All whole records of one log file, as they were before they were compressed. The file may be written to meanwhile. */
export function recordsOf(log: Buffer): Buffer[] {
  const records: Buffer[] = []
  let parts: Buffer[] = []
  for (let at = 0; at + headerBytes <= log.length;) {
    const leftInBlock = blockBytes - (at % blockBytes)
    if (leftInBlock < headerBytes) {
      at += leftInBlock
      continue
    }
    const lengthBytes = log.readUInt16LE(at + 4)
    const type = log[at + 6]
    const fragment = log.subarray(at + headerBytes, at + headerBytes + lengthBytes)
    if (fragment.length < lengthBytes) break
    at += headerBytes + lengthBytes
    if (type === full || type === first) parts = []
    if (type === full || type === first || type === middle || type === last) parts.push(fragment)
    if (type === full || type === last) records.push(unpacked(Buffer.concat(parts)))
  }
  return records
}

function unpacked(record: Buffer): Buffer {
  return record.subarray(0, zstdMagic.length).equals(zstdMagic) ? zstdDecompressSync(record) : record
}
