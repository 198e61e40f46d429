/** Guests without an operating system, so that a VM's life can be tested in a second: what they run is written here byte by byte. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { LandingImage } from '../../../../src/plugin-sdk/index.ts'

/** Where the boot sector counts, in the sector that it writes again at every clock tick (18 a second). After each write it says the count's low byte on the serial line. */
export const counterOffset = 512 + 0x1d0

/** A disk that boots: says D on the serial line, then counts in its second sector. */
export function bootDisk(sizeBytes: number): Buffer {
  const disk = Buffer.alloc(sizeBytes)
  const code = [
    [0xba, 0xf8, 0x03, 0xb0, 0x44, 0xee], // mov dx, 0x3f8; mov al, 'D'; out dx, al
    [0x31, 0xc0, 0x8e, 0xc0, 0x8e, 0xd8], // xor ax, ax; mov es, ax; mov ds, ax
    [0xff, 0x06, 0xd0, 0x7d], // loop: inc word [0x7c00 + 0x1d0]
    [0xb8, 0x01, 0x03, 0xbb, 0x00, 0x7c], // mov ax, 0x0301 (write one sector); mov bx, 0x7c00
    [0xb9, 0x02, 0x00, 0xba, 0x80, 0x00, 0xcd, 0x13], // mov cx, 2; mov dx, 0x80; int 0x13
    [0xba, 0xf8, 0x03, 0xa0, 0xd0, 0x7d, 0xee], // mov dx, 0x3f8; mov al, [0x7dd0]; out dx, al
    [0xfb, 0xf4, 0xeb, 0xe3], // sti; hlt; jmp loop
  ].flat()
  Buffer.from(code).copy(disk)
  disk.writeUInt16LE(0xaa55, 510)
  return disk
}

/** A disk that boots: counts once in its second sector, then sleeps (ACPI S3) until it is woken, which boots it anew. */
export function sleepingDisk(sizeBytes: number): Buffer {
  const disk = Buffer.alloc(sizeBytes)
  const code = [
    [0x31, 0xc0, 0x8e, 0xc0, 0x8e, 0xd8], // xor ax, ax; mov es, ax; mov ds, ax
    [0xff, 0x06, 0xd0, 0x7d], // inc word [0x7c00 + 0x1d0]
    [0xb8, 0x01, 0x03, 0xbb, 0x00, 0x7c], // mov ax, 0x0301 (write one sector); mov bx, 0x7c00
    [0xb9, 0x02, 0x00, 0xba, 0x80, 0x00, 0xcd, 0x13], // mov cx, 2; mov dx, 0x80; int 0x13
    [0xba, 0x04, 0x06, 0xb8, 0x00, 0x24, 0xef], // mov dx, 0x604 (PM1 control); mov ax, 0x2400 (sleep, type 1: S3); out dx, ax
    [0xfb, 0xf4, 0xeb, 0xfd], // sti; hlt; jmp to the hlt
  ].flat()
  Buffer.from(code).copy(disk)
  disk.writeUInt16LE(0xaa55, 510)
  return disk
}

/** A multiboot kernel that says L on the serial line and halts. */
export async function bareLanding(directory: string): Promise<LandingImage> {
  const loadAddress = 0x100000
  const header = [0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000), loadAddress, loadAddress, 0, 0, loadAddress + 32]
  const kernel = Buffer.alloc(8192)
  header.forEach((word, position) => kernel.writeInt32LE(word | 0, position * 4))
  // mov edx, 0x3f8; mov al, 'L'; out dx, al; hlt; jmp to the hlt
  Buffer.from([0xba, 0xf8, 0x03, 0x00, 0x00, 0xb0, 0x4c, 0xee, 0xf4, 0xeb, 0xfd]).copy(kernel, 32)
  await mkdir(directory, { recursive: true })
  const landing = {
    kernelPath: join(directory, 'kernel'),
    initrdPath: join(directory, 'initrd'),
    commandLine: 'quiet',
    memoryBytes: 16 * 1024 * 1024,
  }
  await writeFile(landing.kernelPath, kernel)
  await writeFile(landing.initrdPath, 'a base initrd')
  return landing
}
