/** The Debian packages that demo, tests and bench run on, and their installation where apt-get is. */
import { accessSync, constants, existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { runCommand } from './run-command.ts'
import listed from './system-packages.json' with { type: 'json' }

export interface SystemPackage {
  name: string
  why: string
  /** A command on the path, or an absolute path, that is there once the package is. */
  probe: string
}

/** What demo, tests and bench run on. (A JSON file, since the bootstrap names them too, with any Node, where it can't install anything.) */
export const systemPackages: readonly SystemPackage[] = listed.filter((entry) => !('tests' in entry))

/** Only a machine that runs the tests needs these as well. */
export const testPackages: readonly SystemPackage[] = listed.filter((entry) => 'tests' in entry)

export interface PackageSystem {
  /** Whether a package's probe (a command or an absolute path) is there. */
  has(probe: string): boolean
  run(command: string, args: readonly string[]): Promise<unknown>
}

/**
 * Installs what is missing of `packages`, saying what and why. Throws an Error with one sentence that lists the packages where there is no apt-get,
 * and the installer's own words where it fails.
 */
export async function ensurePackages(
  packages: readonly SystemPackage[],
  { log, system = thisSystem }: { log: (line: string) => void; system?: PackageSystem },
): Promise<void> {
  const missing = packages.filter(({ probe }) => !system.has(probe))
  if (missing.length === 0) return
  const names = missing.map(({ name }) => name)
  if (!system.has('apt-get'))
    throw new Error(
      `This machine has no apt-get: install what Debian calls ${names.join(', ')} with your own package manager, then run the same command again.`,
    )
  log('installing Debian packages with apt-get:')
  for (const { name, why } of missing) log(`  ${name}: ${why}`)
  const elevated = process.getuid?.() === 0 ? [] : ['sudo']
  const apt = (...args: string[]) => {
    const command = [...elevated, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', ...args]
    return system.run(command[0]!, command.slice(1))
  }
  // One broken repository of the user's fails the update, though the packages may well be found without it: the installation decides.
  await apt('update').catch((error: unknown) => log(`going on with the package lists there are: ${String(error)}`))
  await apt('install', '-y', '--no-install-recommends', ...names)
  const stillMissing = packages.filter(({ probe }) => !system.has(probe))
  if (stillMissing.length > 0)
    throw new Error(
      `apt-get installed ${names.join(', ')}, but ${stillMissing.map(({ name, probe }) => `${probe} (of ${name})`).join(', ')} is still missing. Install a package that has it, then run the same command again.`,
    )
}

const thisSystem: PackageSystem = {
  has(probe) {
    if (probe.startsWith('/')) return existsSync(probe)
    // Root's programs count as well when the path of an ordinary user lacks them.
    const directories = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin']
    return directories.some((directory) => isExecutable(join(directory, probe)))
  },
  run: (command, args) => runCommand(command, args),
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
