/**
 * Packages of Debian 12 with all that they need, fetched once into a cache, without root and whatever this machine's own packages are. apt is told to keep everything in the cache's
 * directory, to look at Debian only, and to think that nothing is installed.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PortolanError } from '../domain/errors.ts'
import { runProgram } from './run-program.ts'

export interface FetchedPackage {
  name: string
  version: string
  /** The archive. */
  path: string
}

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'
const suites = ['bookworm', 'bookworm-updates']
/** Also keeps out apt's own operators, such as a slash for a release. */
const nameRule = /^[a-z0-9][a-z0-9+.-]+$/
const most = 200

/** Throws INVALID_INPUT for what can't be a Debian package's name. */
export function checkPackageNames(names: readonly string[]): void {
  if (names.length > most) throw refused(`A parent VM is made of at most ${most} packages by name, and ${names.length} were given.`)
  for (const name of names) {
    if (nameRule.test(name) && name.length <= 100) continue
    throw refused(`${JSON.stringify(name.slice(0, 100))} is not the name of a Debian package.`)
  }
}

/** Throws INVALID_INPUT that names a package which Debian 12 doesn't have, UNSUPPORTED without apt, and CLOUD_UNREACHABLE (retryable) where Debian's servers don't answer. */
export async function fetchPackages(
  names: readonly string[],
  cacheDirectory: string,
  signal: AbortSignal | undefined,
): Promise<FetchedPackage[]> {
  checkPackageNames(names)
  const options = prepare(cacheDirectory)
  const lists = join(cacheDirectory, 'updated')
  if (!existsSync(lists)) await update()
  // By its exact name: apt takes one that it doesn't know, and that has a dot, for a pattern.
  if ((await unknown()).length > 0) await update()
  const missing = await unknown()
  if (missing.length > 0) throw refused(`Debian 12 has no package ${missing.join(', ')}.`)
  const install = ['install', '--no-install-recommends', '--yes']
  // Only what isn't fetched yet would be printed.
  const plan = ['-o', `Dir::Cache::archives=${join(cacheDirectory, 'nothing')}`, ...install, '--print-uris', ...names]
  let planned = await apt('apt-get', plan)
  let fetched = await apt('apt-get', [...install, '--download-only', ...names])
  if (fetched.exitCode !== 0) {
    // Most often the lists are older than what the servers have.
    await update()
    planned = await apt('apt-get', plan)
    fetched = await apt('apt-get', [...install, '--download-only', ...names])
  }
  if (planned.exitCode !== 0) throw refused(`The packages ${names.join(', ')} don't go together: ${lastError(planned.errors)}`)
  if (fetched.exitCode !== 0) throw unreachable(lastError(fetched.errors))
  return plannedPackages(planned.output, join(cacheDirectory, 'archives'))

  async function apt(program: string, args: readonly string[]) {
    try {
      return await runProgram(program, [...options, ...args], signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      throw new PortolanError('UNSUPPORTED', 'Parent VMs are made of Debian packages with apt-get, which this machine lacks.', {
        retryable: false,
        remedy: 'Run the control plane on Debian or Ubuntu, or register the parent VM with an image that was made elsewhere.',
      })
    }
  }

  async function update() {
    const updated = await apt('apt-get', ['update'])
    // With lists from an earlier time, the packages may still be there.
    if (updated.exitCode !== 0 && !existsSync(lists)) throw unreachable(lastError(updated.errors))
    writeFileSync(lists, '')
  }

  async function unknown(): Promise<string[]> {
    const known = new Set((await apt('apt-cache', ['pkgnames'])).output.split('\n'))
    return names.filter((name) => !known.has(name))
  }
}

/**
 * What `apt-get --print-uris` says: a line for each archive, named `<name>_<version>_<architecture>.deb` with its odd characters as in a URL.
 * Throws CLOUD_UNREACHABLE for one that can't be read: a package must not be left out in silence.
 */
export function plannedPackages(output: string, archives: string): FetchedPackage[] {
  const lines = output.split('\n').filter((line) => line.startsWith("'"))
  return lines.map((line) => {
    const file = /^'[^']+' ([^\s/]+\.deb) \d+/.exec(line)?.[1] ?? ''
    const [, name, version] = /^([a-z0-9][a-z0-9+.-]+)_((?:[^_%]|%[0-7][0-9a-fA-F])+)_[^_]+$/.exec(file) ?? []
    if (name === undefined || version === undefined) throw unreachable(`apt-get planned what is no package: ${line.slice(0, 200)}`)
    return { name, version: decodeURIComponent(version), path: join(archives, file) }
  })
}

function prepare(directory: string): string[] {
  for (const path of ['lists/partial', 'archives/partial', 'nothing/partial']) mkdirSync(join(directory, path), { recursive: true })
  const mirror = process.env['DEBIAN_MIRROR'] || 'http://deb.debian.org/debian'
  const sources = suites.map((suite) => `deb [signed-by=${keyring}] ${mirror} ${suite} main\n`)
  writeFileSync(join(directory, 'sources.list'), sources.join(''))
  writeFileSync(join(directory, 'status'), '')
  const settings: Record<string, string> = {
    'Dir::State': directory,
    'Dir::State::lists': join(directory, 'lists'),
    'Dir::State::status': join(directory, 'status'),
    'Dir::State::extended_states': join(directory, 'extended_states'),
    'Dir::Cache': directory,
    'Dir::Cache::archives': join(directory, 'archives'),
    'Dir::Etc::sourcelist': join(directory, 'sources.list'),
    'Dir::Etc::sourceparts': join(directory, 'nothing/partial'),
    'Dir::Etc::preferences': join(directory, 'nothing/preferences'),
    'Dir::Etc::preferencesparts': join(directory, 'nothing/partial'),
    'APT::Architecture': 'amd64',
    'APT::Architectures': 'amd64',
    // Its own user could not write here.
    'APT::Sandbox::User': '',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '2',
    'Acquire::http::Timeout': '30',
    'Debug::NoLocking': '1',
  }
  return ['-q', ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])]
}

function lastError(text: string): string {
  const lines = text.split('\n').filter((line) => line.startsWith('E: '))
  return (lines.at(-1) ?? text.trim().split('\n').at(-1) ?? '').replace(/^E: /, '').slice(0, 500)
}

function refused(message: string): PortolanError {
  return new PortolanError('INVALID_INPUT', message, {
    retryable: false,
    remedy: 'Give names of packages as https://packages.debian.org/bookworm/ lists them.',
    path: ['input', 'packages'],
  })
}

function unreachable(why: string): PortolanError {
  return new PortolanError('CLOUD_UNREACHABLE', `Debian's packages could not be fetched: ${why}`, {
    retryable: true,
    remedy: "See that this machine reaches Debian's servers (or set DEBIAN_MIRROR to a mirror that it reaches), then try again.",
  })
}
