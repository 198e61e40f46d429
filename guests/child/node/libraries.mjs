import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Where Debian puts what its packages bring, and what the image's own `npm install` would have made. */
const directories = ['/usr/share/nodejs', '/usr/lib/x86_64-linux-gnu/nodejs', '/usr/lib/node_modules', '/node_modules']
const most = 1_000

/** The libraries that a program can load, by name, with their versions. */
export function libraries() {
  const found = {}
  const look = (directory, name) => {
    try {
      const { version } = JSON.parse(readFileSync(join(directory, name, 'package.json'), 'utf8'))
      if (typeof version === 'string' && Object.keys(found).length < most) found[name] = version
    } catch {
      // A directory that is no package.
    }
  }
  for (const directory of directories.filter((path) => existsSync(path)))
    for (const name of readdirSync(directory).sort()) {
      if (name === '@types') continue
      if (name.startsWith('@')) for (const scoped of readdirSync(join(directory, name))) look(directory, `${name}/${scoped}`)
      else look(directory, name)
    }
  return found
}
