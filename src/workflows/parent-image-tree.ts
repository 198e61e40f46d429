/** The root file system of a parent VM as files: what its packages hold, unpacked but not configured, and what Portolan runs in the guest. */
import { cpSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { FetchedPackage } from './debian-packages.ts'
import { runProgram } from './run-program.ts'

export const guestFiles = resolve(import.meta.dirname, '../../guests/child')

/** Nobody reads these in a child. */
const leftOut = [
  './usr/share/doc',
  './usr/share/man',
  './usr/share/info',
  './usr/share/locale',
  './usr/share/lintian',
  './usr/share/bug',
  './usr/include',
  './usr/lib/python3*/test',
  './usr/lib/python3/dist-packages/*/tests',
  './usr/lib/python3*/lib2to3/tests',
  './usr/lib/x86_64-linux-gnu/gconv',
]
const excluded = leftOut.map((pattern) => `--exclude=${pattern}`)
const unpack =
  'archive=$1 tree=$2; shift 2; dpkg-deb --fsys-tarfile "$archive" | tar --extract --directory "$tree" --keep-directory-symlink --no-same-owner --wildcards "$@"'
const libraries = 'usr/lib/x86_64-linux-gnu'

/** Fills `tree`, an empty directory. */
export async function fillTree(
  tree: string,
  packages: readonly FetchedPackage[],
  runtime: 'NODE' | 'PYTHON',
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const path of [
    'usr/bin',
    'usr/sbin',
    'usr/lib',
    'usr/lib64',
    'etc',
    'dev',
    'proc',
    'sys',
    'run',
    'root',
    'tmp',
    'var/tmp',
    'var/log',
  ])
    mkdirSync(join(tree, path), { recursive: true })
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${name}`, join(tree, name))
  for (const { path } of packages) {
    const { exitCode, errors } = await runProgram('sh', ['-c', unpack, 'sh', path, tree, ...excluded], signal)
    if (exitCode !== 0) throw new Error(`The package ${path} could not be unpacked: ${errors.trim().slice(-500)}`)
  }
  linkAlternatives(join(tree, libraries))
  if (runtime === 'PYTHON') await compilePython(tree, signal)
  cpSync(join(guestFiles, 'root'), tree, { recursive: true })
  // Each child has its own.
  symlinkSync('/proc/sys/kernel/hostname', join(tree, 'etc/hostname'))
  symlinkSync('/run/machine-id', join(tree, 'etc/machine-id'))
  cpSync(guestFiles, join(tree, 'portolan'), { recursive: true, filter: (path) => !/\/(root|__pycache__)$/.test(path) })
  cpSync(join(tree, 'usr/bin/busybox'), join(tree, 'portolan/busybox'))
  if (!existsSync(join(tree, 'usr/bin/sh'))) symlinkSync('busybox', join(tree, 'usr/bin/sh'))
  writeFileSync(join(tree, 'portolan/runtime'), `${runtime.toLowerCase()}\n`)
}

/** With the tree's own Python and C library, which need nothing of this machine: its packages are compiled when they are installed, which isn't done here. */
async function compilePython(tree: string, signal: AbortSignal | undefined): Promise<void> {
  const python = [
    join(tree, 'usr/lib64/ld-linux-x86-64.so.2'),
    '--library-path',
    join(tree, libraries),
    join(tree, 'usr/bin/python3'),
    '-s',
    '-S',
  ]
  const compile = ['-m', 'compileall', '-q', '-j', '0', '-s', tree, '-p', '/', '--invalidation-mode', 'unchecked-hash']
  const directories = readdirSync(join(tree, 'usr/lib')).filter((name) => name.startsWith('python3'))
  const found = directories.map((name) => join(tree, 'usr/lib', name))
  const options = [`PYTHONHOME=${join(tree, 'usr')}`, 'PYTHONPYCACHEPREFIX=', ...python, ...compile, ...found]
  const { exitCode, output, errors } = await runProgram('env', options, signal)
  // A package may hold files for another version of the language: they are compiled by whoever loads them.
  if (exitCode > 1) throw new Error(`Python's modules could not be compiled: ${(errors || output).trim().slice(-500)}`)
}

/** Where several packages hold the same library, each keeps it in a directory of its own, and its installation, which isn't run here, would link one of them. */
function linkAlternatives(directory: string): void {
  for (const entry of readdirSync(directory, { withFileTypes: true }).toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    if (!entry.isDirectory()) continue
    const shared = readdirSync(join(directory, entry.name)).filter((name) => /^lib.+\.so\.\d+$/.test(name))
    for (const name of shared) if (!existsSync(join(directory, name))) symlinkSync(join(entry.name, name), join(directory, name))
  }
}
