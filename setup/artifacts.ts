/**
 * Where the set-up puts what it builds. Paths are the same from run to run; whether the files are there and current is `ensureSetup`'s business.
 *
 *   <cache>/debian/disk.raw              full Debian with systemd
 *   <cache>/tiny/disk.raw                the same userland with a small init
 *   <cache>/landing/{kernel,initrd}      what a destination boots while its disks are filled
 *   <cache>/parent-base/{kernel,initrd}  what a parent VM boots before its disk
 *   <cache>/agent-bundle/                agent.mjs, node, lib/*.so*, run (launcher); and to be sent: node.zst, the others with unpack/ as bundle.tar
 *   <cache>/browser/{chromium,lib,fonts.conf} only where the tests were set up
 *   <cache>/keys/                        SSH keys of the guests, 0600
 */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

export interface Artifacts {
  cacheDirectory: string
  /** Raw, sparse, 2 GiB, boots by itself (BIOS). 512 MiB of RAM is enough. HTTP workload on port 8080, SSH on 22. */
  debianImage: string
  /** The same, smaller and quicker to boot. */
  tinyImage: string
  landing: { kernelPath: string; initrdPath: string; commandLine: string; memoryBytes: number }
  /** What a parent VM boots before its own disk, whose init takes over. */
  parentBase: { kernelPath: string; initrdPath: string }
  /** Holds `run` (start it as `./run <role> <bootstrap.json>`), agent.mjs, node and lib/, and what is sent into a guest: bundle.tar and node.zst. */
  agentBundleDirectory: string
  /** For the tests only: a headless Chromium, and the environment in which it finds its libraries and fonts. */
  browser: { executablePath: string; environment: Record<string, string> }
  /** How to log in to either image. `readGuestAccess` gives the contents. */
  guestAccess: { user: string; privateKeyPath: string; hostKeysPath: string }
}

/** RAM for guests under software emulation: 512 MiB less 8 KiB, off the 256 KiB grid where QEMU's dirty log can lose pages. */
export const guestMemoryBytes = 524_280 * 1024

/** `$PORTOLAN_CACHE`, else `$XDG_CACHE_HOME/portolan`, else `~/.cache/portolan`. */
export function cacheDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  if (environment['PORTOLAN_CACHE']) return resolve(environment['PORTOLAN_CACHE'])
  return join(environment['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'portolan')
}

/** Absolute paths of everything the set-up builds. Reads nothing: the files exist only after `ensureSetup`. */
export function artifacts(directory: string = cacheDirectory()): Artifacts {
  return {
    cacheDirectory: directory,
    debianImage: join(directory, 'debian', 'disk.raw'),
    tinyImage: join(directory, 'tiny', 'disk.raw'),
    landing: {
      kernelPath: join(directory, 'landing', 'kernel'),
      initrdPath: join(directory, 'landing', 'initrd'),
      commandLine: 'console=ttyS0 quiet panic=-1 mitigations=off audit=0 no_timer_check',
      memoryBytes: guestMemoryBytes,
    },
    parentBase: { kernelPath: join(directory, 'parent-base', 'kernel'), initrdPath: join(directory, 'parent-base', 'initrd') },
    agentBundleDirectory: join(directory, 'agent-bundle'),
    browser: {
      executablePath: join(directory, 'browser', 'chromium'),
      environment: { LD_LIBRARY_PATH: join(directory, 'browser', 'lib'), FONTCONFIG_FILE: join(directory, 'browser', 'fonts.conf') },
    },
    guestAccess: {
      user: 'root',
      privateKeyPath: join(directory, 'keys', 'client-key'),
      hostKeysPath: join(directory, 'keys', 'host-keys.pub'),
    },
  }
}

/** The login of both images, ready for a cloud's `guestAccess` option. Throws when the set-up hasn't run. */
export function readGuestAccess(from: Artifacts = artifacts()): { user: string; privateKey: string; hostKeys: string[] } {
  return {
    user: from.guestAccess.user,
    privateKey: readFileSync(from.guestAccess.privateKeyPath, 'utf8'),
    hostKeys: readFileSync(from.guestAccess.hostKeysPath, 'utf8').trim().split('\n'),
  }
}
