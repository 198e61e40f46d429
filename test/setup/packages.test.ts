import { expect, test } from 'vitest'
import { ensurePackages, systemPackages, testPackages, type PackageSystem, type SystemPackage } from '../../setup/packages.ts'

const wanted: SystemPackage[] = [
  { name: 'qemu-system-x86', probe: 'qemu-system-x86_64', why: 'runs the virtual machines' },
  { name: 'grub-pc-bin', probe: '/usr/lib/grub/boot.img', why: 'boots them' },
]

/** A machine that has the probes in `present`, and on which apt-get makes `brings` appear. */
function machine(present: string[], brings: string[] = []) {
  const commands: string[] = []
  const log: string[] = []
  const system: PackageSystem = {
    has: (probe) => present.includes(probe),
    run: async (command, args) => {
      commands.push([command, ...args].join(' '))
      if (args.includes('install')) present.push(...brings)
    },
  }
  return { commands, log, ensure: () => ensurePackages(wanted, { log: (line) => log.push(line), system }) }
}

test('a machine that has everything is left alone, without a word', async () => {
  const { commands, log, ensure } = machine(['qemu-system-x86_64', '/usr/lib/grub/boot.img'])
  await ensure()
  expect({ commands, log }).toEqual({ commands: [], log: [] })
})

test('only what is missing is installed, and it is said why', async () => {
  const { commands, log, ensure } = machine(['apt-get', 'qemu-system-x86_64'], ['/usr/lib/grub/boot.img'])
  await ensure()
  expect(commands.at(-1)).toMatch(/apt-get -q install -y --no-install-recommends grub-pc-bin$/)
  expect(log.join('\n')).toContain('grub-pc-bin: boots them')
  expect(log.join('\n')).not.toContain('qemu')
})

test('where there is no apt-get, one sentence lists what to install', async () => {
  const { commands, ensure } = machine([])
  await expect(ensure()).rejects.toThrow(/^[^.]*no apt-get[^.]*qemu-system-x86, grub-pc-bin[^.]*\.$/)
  expect(commands).toEqual([])
})

test('a package that does not bring what it should is named', async () => {
  const { ensure } = machine(['apt-get'], ['qemu-system-x86_64'])
  await expect(ensure()).rejects.toThrow(/boot\.img \(of grub-pc-bin\) is still missing/)
})

test('every package of ours has a reason and a probe of its own', () => {
  const all = [...systemPackages, ...testPackages]
  expect(new Set(all.map(({ name }) => name)).size).toBe(all.length)
  expect(new Set(all.map(({ probe }) => probe)).size).toBe(all.length)
  expect(all.filter(({ why }) => why.length < 10)).toEqual([])
})
