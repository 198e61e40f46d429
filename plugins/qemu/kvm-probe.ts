/**
 * Whether KVM really runs guests here. /dev/kvm may exist, answer every ioctl, and still hang them, so it is believed only after a guest of 64 KiB of
 * boot ROM has said so. Without the CPU's flag or the kernel's module the answer is no, and /dev/kvm isn't touched.
 */
import { spawn } from 'node:child_process'
import { access, constants, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeDurably } from './durable-file.ts'

const romBytes = 0x10000
const probeTimeoutMs = 1_000
/** What the ROM writes to the exit device; QEMU then ends with twice that plus one. */
const marker = 0x2a

/** Asks once per boot, kernel and emulator, and keeps the answer in `cachePath`. */
export async function kvmWorks(qemuBinary: string, cachePath: string): Promise<boolean> {
  if (!(await cpuAndKernelHaveKvm())) return false
  const key = `${(await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()} ${release()} ${await versionOf(qemuBinary)}`
  const cached = await readFile(cachePath, 'utf8').catch(() => '')
  if (cached.startsWith(`${key} `)) return cached.endsWith(' yes')
  const works = await bootsProbeRom(qemuBinary, 'kvm')
  await writeDurably(cachePath, `${key} ${works ? 'yes' : 'no'}`)
  return works
}

async function cpuAndKernelHaveKvm(): Promise<boolean> {
  const flags = /^flags\s*:.*\b(vmx|svm)\b/m.test(await readFile('/proc/cpuinfo', 'utf8'))
  const loaded = await Promise.all(['/sys/module/kvm_intel', '/sys/module/kvm_amd'].map((path) => reachable(path, constants.F_OK)))
  return flags && loaded.includes(true) && (await reachable('/dev/kvm', constants.R_OK | constants.W_OK))
}

/** Whether a guest of one ROM reaches its end in time. */
export async function bootsProbeRom(qemuBinary: string, accelerator: 'kvm' | 'tcg', timeoutMs = probeTimeoutMs): Promise<boolean> {
  const directory = await mkdtemp(join(tmpdir(), 'portolan-probe-'))
  try {
    await writeFile(join(directory, 'rom'), probeRom())
    const machine = [
      '-nodefaults',
      '-no-user-config',
      '-display',
      'none',
      '-machine',
      `pc,accel=${accelerator}`,
      '-m',
      '8M',
      '-bios',
      'rom',
    ]
    const child = spawn(qemuBinary, [...machine, '-device', 'isa-debug-exit,iobase=0xf4,iosize=0x04'], {
      cwd: directory,
      stdio: 'ignore',
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    })
    const exitCode = await new Promise<number | null>((resolve) => {
      child.once('error', () => resolve(null))
      child.once('exit', resolve)
    })
    return exitCode === marker * 2 + 1
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** The CPU starts 16 bytes below the ROM's end: mov al, marker; out 0xf4, al; hlt; jmp to the hlt. */
function probeRom(): Buffer {
  const rom = Buffer.alloc(romBytes, 0xf4)
  Buffer.from([0xb0, marker, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd]).copy(rom, romBytes - 16)
  return rom
}

function versionOf(qemuBinary: string): Promise<string> {
  const child = spawn(qemuBinary, ['--version'], { stdio: ['ignore', 'pipe', 'ignore'], timeout: 10_000 })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', () => resolve(text.split('\n')[0] ?? ''))
  })
}

async function reachable(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  )
}
