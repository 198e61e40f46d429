import { blockBytes } from '../../transfer/block-grain.ts'

const windowMs = 15_000
/** File systems write back in bursts: less time than this tells nothing. */
const tellingMs = 1_000

/** How fast the guest changes its disk, from how many blocks were found changed in all, over the last seconds. */
export interface ChangeRate {
  /** `changedBlocks` only ever grows. Bytes a second; null before there is enough to tell. */
  learn(changedBlocks: number): number | null
}

export function createChangeRate(now: () => number = () => performance.now()): ChangeRate {
  const samples: { at: number; changedBlocks: number }[] = []
  return {
    learn(changedBlocks) {
      const at = now()
      samples.push({ at, changedBlocks })
      while (samples.length > 2 && at - samples[1]!.at >= windowMs) samples.shift()
      const first = samples[0]!
      if (at - first.at < tellingMs) return null
      return Math.round(((changedBlocks - first.changedBlocks) * blockBytes * 1000) / (at - first.at))
    },
  }
}
