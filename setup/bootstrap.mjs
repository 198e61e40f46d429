/**
 * Runs a script of this project with the project's own Node, from a fresh clone, whatever Node (>= 18) started it:
 *   node setup/bootstrap.mjs <script.ts> [arguments]
 * Plain JavaScript without imports from node_modules, since it runs before `npm ci`.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const node = join(root, 'node_modules', '.bin', 'node')
/** Scripts that make VMs, bridges and namespaces, or install Debian packages. `npm start` is not among them. */
const needRoot = new Set(['setup/setup.ts', 'src/cli/demo.ts', 'test/run.ts', 'bench/run.ts'])

const [script, ...args] = process.argv.slice(2)
if (script === undefined) fail('usage: node setup/bootstrap.mjs <script.ts> [arguments]')

installModules()
run(script, args)

/** `npm ci` when the lock file isn't the one that node_modules was made from. */
function installModules() {
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex')
  const stamp = join(root, 'node_modules', '.portolan-lock')
  if (existsSync(node) && existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return
  process.stderr.write('portolan: installing the npm packages of package-lock.json (npm ci), since node_modules is missing or older\n')
  const npm = spawnSync('npm', ['ci', '--no-progress', '--loglevel=error'], { cwd: root, stdio: ['ignore', 2, 2] })
  if (npm.status !== 0)
    fail(
      `npm ci failed (${npm.error?.message ?? `exit ${npm.status}`}); nothing else was changed. Mend what it printed above, then run the command again.`,
    )
  if (!existsSync(node))
    fail(
      `There is no build of Node 26 for ${process.platform}-${process.arch} among this project's optional dependencies; use Linux on x64 or arm64.`,
    )
  writeFileSync(stamp, lock)
}

function run(name, rest) {
  const command = [node, join(root, name), ...rest]
  const elevate = needRoot.has(name) && process.getuid?.() !== 0 && !rest.includes('--help')
  if (elevate) {
    process.stderr.write(`portolan: ${name} starts virtual machines and networks of its own, which needs root: using sudo\n`)
    const owner = statSync(root)
    command.unshift('sudo', `PORTOLAN_CACHE=${cache()}`, `PORTOLAN_OWNER=${owner.uid}:${owner.gid}`, `CI=${process.env.CI ?? ''}`)
  }
  const child = spawn(command[0], command.slice(1), { cwd: root, stdio: 'inherit' })
  child.on('error', (error) => fail(`Could not start ${command[0]}: ${error.message}. Nothing was changed.`))
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('exit', (code, signal) => process.exit(signal ? 128 + 15 : (code ?? 1)))
}

function cache() {
  return process.env.PORTOLAN_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'portolan')
}

function fail(message) {
  process.stderr.write(`portolan: ${message}\n`)
  process.exit(1)
}
