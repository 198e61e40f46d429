/**
 * How fast a guest's disk gets into another guest: our agents against rsync over ssh and nbdcopy, in one run, in the same two guests, over the same link, with
 * the same cipher (ChaCha20-Poly1305), caches cold. After each copy the two images are compared from outside; a difference fails the bench.
 *
 *   first copy    the whole disk onto an empty one
 *   delta round   after 1 % of its 64 KiB blocks were changed
 *   limit         the slowest of reading, hashing and encrypting alone in the source guest
 *
 * Medians over the repetitions, in which the contenders take turns. Options: --repetitions N (3), --size-mib N (256), --cpus N per guest (1).
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ensureSetup } from '../setup/setup.ts'
import { cacheDirectory } from '../setup/artifacts.ts'
import { enterPrivateNetwork } from '../src/cli/private-site/enter-private-network.ts'
import { changeBlocks, compareImages, makeBenchDisks } from './agent-copy/bench-disk.ts'
import type { Contender, Copied } from './agent-copy/contender.ts'
import { makeGuestLink } from './agent-copy/guest-link.ts'
import { startGuest, type Guest } from './agent-copy/guest.ts'
import { prepareLimit, type AgentLimit } from './agent-copy/measure-limit.ts'
import { nbdcopyContender, preparePeers, rsyncContender } from './agent-copy/peer-contenders.ts'
import { agentDirectory, createPortolanContender } from './agent-copy/portolan-contender.ts'
import { summarise, type Figures } from './agent-copy/figures.ts'

const log = (line: string): void => void process.stderr.write(`${line}\n`)

export default async function agentCopy({ signal }: { signal: AbortSignal }): Promise<void> {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean' },
      repetitions: { type: 'string', default: '3' },
      'size-mib': { type: 'string', default: '256' },
      cpus: { type: 'string', default: '1' },
    },
    allowPositionals: true,
  })
  const sizeMib = Number(values['size-mib'])
  await ensureSetup({ log, signal })
  await enterPrivateNetwork()
  const directory = mkdtempSync(join(cacheDirectory(), 'bench-'))
  const guests: Guest[] = []
  const ends: (() => Promise<void>)[] = []
  try {
    await makeGuestLink(['source', 'destination'])
    const images = { source: join(directory, 'source.raw'), destination: join(directory, 'destination.raw') }
    await makeBenchDisks(images.source, images.destination, sizeMib, directory)
    const start = async (name: 'source' | 'destination', linkAddress: string): Promise<Guest> => {
      const guest = await startGuest({
        name,
        directory,
        diskPath: images[name],
        cpuCount: Number(values.cpus),
        linkAddress,
        tap: name,
        log,
        signal,
      })
      guests.push(guest)
      return guest
    }
    const [source, destination] = await Promise.all([start('source', '192.168.77.1'), start('destination', '192.168.77.2')])
    await source.run(`mkdir -p /mnt/bench && mount -o noatime,commit=600 /dev/${source.diskDevice} /mnt/bench`)
    await preparePeers(source, destination)
    const portolan = await createPortolanContender(source, destination, signal)
    ends.push(() => portolan.close())
    const measureLimit = await prepareLimit(source, agentDirectory, directory)
    const contenders = [portolan, rsyncContender(source, destination, log), nbdcopyContender(source, destination, log)]
    const figures: Figures = { portolan: [], rsync: [], nbdcopy: [] }
    const limits: AgentLimit[] = []

    const cold = async (): Promise<void> => {
      for (const guest of guests) await guest.run('sync; echo 3 >/proc/sys/vm/drop_caches')
    }
    const measure = async (copy: () => Promise<Copied>): Promise<Copied & { guestCpuSeconds: number }> => {
      await cold()
      const cpuBefore = source.cpuSeconds() + destination.cpuSeconds()
      const copied = await copy()
      const guestCpuSeconds = source.cpuSeconds() + destination.cpuSeconds() - cpuBefore
      await cold()
      compareImages(images.source, images.destination)
      return { ...copied, guestCpuSeconds }
    }
    const repeat = async (contender: Contender): Promise<void> => {
      await destination.run(`blkdiscard -f /dev/${destination.diskDevice}`)
      await contender.prepare()
      const first = await measure(() => contender.firstCopy())
      log(`${contender.name}: first copy ${(sizeMib / first.seconds).toFixed(1)} MiB/s, ${first.guestCpuSeconds.toFixed(1)} s of guest CPU`)
      const deltaRound = contender.deltaRound?.bind(contender)
      if (deltaRound) await changeBlocks(source, sizeMib)
      const delta = deltaRound ? await measure(deltaRound) : null
      if (delta) log(`${contender.name}: delta round ${delta.seconds.toFixed(2)} s, ${delta.guestCpuSeconds.toFixed(1)} s of guest CPU`)
      await contender.finish()
      figures[contender.name].push({ first, delta })
    }

    for (let repetition = 0; repetition < Number(values.repetitions); repetition += 1) {
      await cold()
      limits.push(await measureLimit())
      log(`limit: ${JSON.stringify(limits.at(-1))}`)
      for (let turn = 0; turn < contenders.length; turn += 1) await repeat(contenders[(repetition + turn) % contenders.length]!)
    }
    process.stdout.write(`${JSON.stringify(summarise(figures, limits, { sizeMib, cpus: Number(values.cpus) }))}\n`)
  } finally {
    for (const end of ends) await end()
    for (const guest of guests) await guest.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}
