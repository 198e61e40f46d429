/** What an administrator would use instead, each with the options that serve it best here, found by trying (docs/decisions/0009-bench-agent-copy.md). */
import { readFileSync } from 'node:fs'
import { artifacts } from '../../setup/artifacts.ts'
import type { Contender, Copied } from './contender.ts'
import { plainCode, type Guest } from './guest.ts'

const directory = '/dev/shm/peers'
/** The cipher that the agents negotiate. */
const sshCipher = 'chacha20-poly1305@openssh.com'
const sshPort = 2222
const nbdPort = 10_809

/** Keys for ssh between the guests, and a connection that stays open, so that no peer pays for the handshake; a TLS key for nbdcopy. */
export async function preparePeers(source: Guest, destination: Guest): Promise<void> {
  const { guestAccess } = artifacts()
  await source.run(`mkdir -p -m 700 ${directory}`)
  await destination.run(`mkdir -p -m 700 ${directory}`)
  await source.put(`${directory}/key`, readFileSync(guestAccess.privateKeyPath, 'utf8'))
  const hostKeys = readFileSync(guestAccess.hostKeysPath, 'utf8').trim().split('\n')
  await source.put(`${directory}/known-hosts`, hostKeys.map((key) => `[${destination.linkAddress}]:${sshPort} ${key}\n`).join(''))
  // A server of its own, so that it has the same environment.
  await destination.run(`mkdir -p /run/sshd && ${plainCode} /usr/sbin/sshd -p ${sshPort}`)
  await source.run(`chmod 600 ${directory}/key && ${sshCommand()} -M -N -f root@${destination.linkAddress}`)
  const psk = `bench:${'5a'.repeat(32)}\n`
  for (const guest of [source, destination]) {
    await guest.put(`${directory}/psk`, psk)
    await guest.put(
      `${directory}/gnutls`,
      '[overrides]\ntls-disabled-cipher = AES-128-GCM\ntls-disabled-cipher = AES-256-GCM\ntls-disabled-cipher = AES-128-CCM\ntls-disabled-cipher = AES-256-CCM\n',
    )
  }
}

export function rsyncContender(source: Guest, destination: Guest, log: (line: string) => void): Contender {
  const device = `/dev/${source.diskDevice}`
  const rsync = (transfer: string) =>
    `rsync --inplace --copy-devices --write-devices --ignore-times --fsync --stats ${transfer} -e "${sshCommand()}" ${device} root@${destination.linkAddress}:/dev/${destination.diskDevice}`
  const run = (transfer: string): Promise<Copied> => timed(source, rsync(transfer), log, /Total bytes sent: ([\d,]+)/)
  return {
    name: 'rsync',
    prepare: async () => {},
    firstCopy: () => run('--whole-file'),
    deltaRound: () => run('--no-whole-file --block-size=65536'),
    finish: async () => {},
  }
}

export function nbdcopyContender(source: Guest, destination: Guest, log: (line: string) => void): Contender {
  const uri = `nbds://bench@${destination.linkAddress}:${nbdPort}/?tls-psk-file=${directory}/psk`
  const environment = `GNUTLS_SYSTEM_PRIORITY_FILE=${directory}/gnutls`
  const server = `${environment} nbdkit --pidfile ${directory}/nbdkit.pid --port ${nbdPort} --tls=require --tls-psk=${directory}/psk file /dev/${destination.diskDevice}`
  return {
    name: 'nbdcopy',
    async prepare() {
      log(`destination# ${server}`)
      await destination.run(`${server} && while ! [ -s ${directory}/nbdkit.pid ]; do sleep 0.1; done`)
    },
    firstCopy: () => timed(source, `${environment} nbdcopy --flush --destination-is-zero /dev/${source.diskDevice} '${uri}'`, log, null),
    finish: async () => void (await destination.run(`kill $(cat ${directory}/nbdkit.pid); rm -f ${directory}/nbdkit.pid`)),
  }
}

function sshCommand(): string {
  const options = [
    'BatchMode=yes',
    `UserKnownHostsFile=${directory}/known-hosts`,
    `ControlPath=${directory}/%h`,
    'ControlMaster=auto',
    'ControlPersist=yes',
  ]
  return [
    'env',
    plainCode,
    'ssh',
    '-p',
    String(sshPort),
    '-c',
    sshCipher,
    '-i',
    `${directory}/key`,
    ...options.flatMap((option) => ['-o', option]),
  ].join(' ')
}

/** Timed by the guest's own clock, around the command alone. */
async function timed(guest: Guest, command: string, log: (line: string) => void, sent: RegExp | null): Promise<Copied> {
  log(`${guest.name}# ${command}`)
  const printed = await guest.run(`set -e; from=$(date +%s%N); ${command}; echo "nanoseconds=$(( $(date +%s%N) - from ))"`)
  const seconds = Number(/nanoseconds=(\d+)/.exec(printed)![1]) / 1e9
  const bytes = sent?.exec(printed)?.[1]
  return { seconds, bytesSent: bytes === undefined ? null : Number(bytes.replaceAll(',', '')) }
}
