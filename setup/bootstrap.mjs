/**
 * Runs a script of this project with the project's own Node, from a fresh clone, whatever Node (>= 18) started it:
 *   node setup/bootstrap.mjs <script.ts> [arguments]
 * Plain JavaScript without imports from node_modules, since it runs before `npm ci`.
 */
import { spawn } from 'node:child_process'
import { statSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { installModules } from './install-modules.mjs'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
/** Scripts that make VMs, bridges and namespaces, or install Debian packages. `npm start` is not among them. */
const needRoot = new Set(['setup/setup.ts', 'src/cli/demo.ts', 'test/run.ts', 'bench/run.ts', 'test/chaos/run.ts'])

const [script, ...args] = process.argv.slice(2)
try {
  if (script === undefined) throw new Error('usage: node setup/bootstrap.mjs <script.ts> [arguments]')
  run(installModules(root, log), script, args)
} catch (error) {
  fail(error.message)
}

function run(node, name, rest) {
  const command = [node, join(root, name), ...rest]
  const elevate = needRoot.has(name) && process.getuid?.() !== 0 && !rest.includes('--help')
  const environment = elevate ? environmentForRoot() : process.env
  if (elevate) {
    log(`${name} starts virtual machines and networks of its own, which needs root: using sudo`)
    command.unshift(...sudo(environment))
  }
  const child = spawn(command[0], command.slice(1), { cwd: root, stdio: 'inherit', env: environment })
  child.on('error', (error) =>
    fail(
      elevate && error.code === 'ENOENT'
        ? `There is no sudo here, and you are not root: run the same command as root. Nothing was changed.`
        : `Could not start ${command[0]}: ${error.message}. Nothing was changed.`,
    ),
  )
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('exit', (code, signal) => process.exit(signal ? 128 + 15 : (code ?? 1)))
}

/** With what concerns us, and how this machine reaches the network, which sudo would drop. The results are to belong to the owner of the tree. */
function environmentForRoot() {
  const { uid, gid } = statSync(root)
  return {
    ...process.env,
    PORTOLAN_CACHE: process.env.PORTOLAN_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'portolan'),
    PORTOLAN_OWNER: `${uid}:${gid}`,
    NPM_CONFIG_USERCONFIG: process.env.NPM_CONFIG_USERCONFIG ?? join(homedir(), '.npmrc'),
  }
}

/** By name, since others on this machine may read a command line; sudo's own path has no npm of a user's, so that is given by hand. */
function sudo(environment) {
  const needed = /^(CI|DEBIAN_MIRROR|NPM_CONFIG_USERCONFIG|PORTOLAN_\w+|(https?|no)_proxy)$/i
  const names = Object.keys(environment).filter((name) => needed.test(name))
  return ['sudo', `--preserve-env=${names.join(',')}`, 'env', `PATH=${environment.PATH}`]
}

function log(line) {
  process.stderr.write(`portolan: ${line}\n`)
}

function fail(message) {
  log(message)
  process.exit(1)
}
