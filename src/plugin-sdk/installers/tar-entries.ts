/** Plain files in memory as the beginning of a ustar archive, which another archive follows. Every `tar` unpacks it. Names are flat, at most 100 bytes; contents below 8 GiB. */
export function tarEntries(files: readonly { name: string; mode: number; content: Buffer }[]): Buffer {
  const blocks = files.flatMap(({ name, mode, content }) => [
    header(name, mode, content.length),
    content,
    Buffer.alloc(-content.length & 511),
  ])
  return Buffer.concat(blocks)
}

function header(name: string, mode: number, sizeBytes: number): Buffer {
  const block = Buffer.alloc(512)
  block.write(name, 0, 100)
  block.write(octal(mode, 7), 100)
  block.write(octal(0, 7), 108) // uid
  block.write(octal(0, 7), 116) // gid
  block.write(octal(sizeBytes, 11), 124)
  block.write(octal(0, 11), 136) // modification time
  block.write(' '.repeat(8), 148) // the checksum counts itself as spaces
  block.write('0', 156) // a plain file
  block.write('ustar\u000000', 257)
  const checksum = block.reduce((sum, byte) => sum + byte, 0)
  block.write(`${octal(checksum, 6)}\0 `, 148)
  return block
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0')
}
