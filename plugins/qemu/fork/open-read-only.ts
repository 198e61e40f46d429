/**
 * Lets QEMU map a file of memory that it may only read. Up to 8.1, QEMU opens the file of a private mapping for writing too, though it never writes to it: its account would have to
 * be able to change the parent's memory, and with it every sibling. So the children's QEMU is started with this shared library before its own, whose one function, in
 * place of the C library's `__open64_2`, opens a file for reading where opening it for both is not permitted. It is 4.2 KiB and made here, since no compiler is on a
 * host that runs VMs.
 *
 * x86-64 and the GNU C library only.
 */
const pageBytes = 0x1000

/** int __open64_2(const char *path, int flags): as `__open64`, without O_RDWR where access(path, W_OK) says EACCES. */
// prettier-ignore
const code = Buffer.from([
  0x89, 0xf0,                         // mov eax, esi
  0x83, 0xe0, 0x43,                   // and eax, O_CREAT | O_ACCMODE
  0x83, 0xf8, 0x02,                   // cmp eax, O_RDWR
  0x75, 0x16,                         // jne open
  0x57, 0x56, 0x52,                   // push rdi, rsi, rdx
  0x6a, 0x02, 0x5e,                   // rsi = W_OK
  0x6a, 0x15, 0x58,                   // rax = the system call access
  0x0f, 0x05,                         // syscall
  0x5a, 0x5e, 0x5f,                   // pop rdx, rsi, rdi
  0x83, 0xf8, 0xf3,                   // cmp eax, -EACCES
  0x75, 0x03,                         // jne open
  0x83, 0xe6, 0xfd,                   // and esi, ~O_RDWR
  0xff, 0x25, 0, 0, 0, 0,             // open: jmp [address of __open64], filled in below
])

/** The whole ELF file: one page of what is read and run, and one of what the dynamic linker writes. */
export function openReadOnlyLibrary(): Buffer {
  const names = Buffer.from('\0__open64_2\0__open64\0')
  const [namesAt, symbolsAt, hashAt, relocationAt, codeAt] = [0x200, 0x240, 0x2a0, 0x2c0, 0x300]
  const [dynamicAt, addressAt] = [pageBytes, pageBytes + 9 * 16]
  const file = Buffer.alloc(addressAt + 8)

  // The header: ELF64, little endian, a shared object for x86-64, with 4 program headers.
  Buffer.from('7f454c46020101', 'hex').copy(file)
  file.writeUInt16LE(3, 16)
  file.writeUInt16LE(62, 18)
  file.writeUInt32LE(1, 20)
  file.writeBigUInt64LE(64n, 32)
  for (const [at, value] of [
    [52, 64],
    [54, 56],
    [56, 4],
    [58, 64],
  ] as const)
    file.writeUInt16LE(value, at)
  const [load, dynamic, stack, readable, writable, runnable] = [1, 2, 0x6474e551, 4, 2, 1]
  programHeader(file, 0, load, readable | runnable, 0, codeAt + code.length)
  programHeader(file, 1, load, readable | writable, dynamicAt, file.length - dynamicAt)
  programHeader(file, 2, dynamic, readable | writable, dynamicAt, 9 * 16)
  // Without this one the linker would make the stack executable.
  programHeader(file, 3, stack, readable | writable, 0, 0)

  names.copy(file, namesAt)
  symbol(file, symbolsAt + 24, { name: 1, info: 0x12, section: 1, value: codeAt, size: code.length })
  symbol(file, symbolsAt + 48, { name: 12, info: 0x10, section: 0, value: 0, size: 0 })
  // One bucket, three symbols, one chain from the first real one to the other.
  ;[1, 3, 1, 0, 2, 0].forEach((word, index) => file.writeUInt32LE(word, hashAt + index * 4))
  // The address of the second symbol goes to `addressAt` (R_X86_64_GLOB_DAT).
  ;[BigInt(addressAt), (2n << 32n) | 6n, 0n].forEach((word, index) => file.writeBigUInt64LE(word, relocationAt + index * 8))
  code.copy(file, codeAt)
  file.writeInt32LE(addressAt - (codeAt + code.length), codeAt + code.length - 4)
  const entries = [
    [4, hashAt],
    [5, namesAt],
    [6, symbolsAt],
    [10, names.length],
    [11, 24],
    [7, relocationAt],
    [8, 24],
    [9, 24],
    [0, 0],
  ]
  entries.flat().forEach((word, index) => file.writeBigUInt64LE(BigInt(word), dynamicAt + index * 8))
  return file
}

function programHeader(file: Buffer, index: number, type: number, flags: number, at: number, bytes: number): void {
  const header = 64 + index * 56
  file.writeUInt32LE(type, header)
  file.writeUInt32LE(flags, header + 4)
  for (const offset of [8, 16, 24]) file.writeBigUInt64LE(BigInt(at), header + offset)
  for (const offset of [32, 40]) file.writeBigUInt64LE(BigInt(bytes), header + offset)
  file.writeBigUInt64LE(BigInt(type === 1 ? pageBytes : 8), header + 48)
}

function symbol(
  file: Buffer,
  at: number,
  { name, info, section, value, size }: Record<'name' | 'info' | 'section' | 'value' | 'size', number>,
): void {
  file.writeUInt32LE(name, at)
  file.writeUInt8(info, at + 4)
  file.writeUInt16LE(section, at + 6)
  file.writeBigUInt64LE(BigInt(value), at + 8)
  file.writeBigUInt64LE(BigInt(size), at + 16)
}
