/**
 * `npm run demo -- --fault source-host`: the source's host loses its power in mid-switchover. Everything of it is killed and its cloud can't be reached; the API is asked for
 * the verdict; then the host comes back.
 */
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as documents from './demo-documents.ts'
import type { DemoMigration } from './demo-migration.ts'
import type { GraphqlClient } from './graphql-client.ts'

interface Verdict {
  verdict: string
  row: string
  message: string
  evidence: { site: string; message: string }[]
  safeActions: string[]
}

export interface SourceHostFault {
  /** To be called with each progress: cuts the power once the source is suspended, and restores it once the verdict was shown. */
  watch(migration: DemoMigration): Promise<void>
  /** @throws Error where the story was not told to its end. */
  requireTold(): void
}

/** @param stateDirectory of the qemu cloud: its host, in the demo. */
export function createSourceHostFault(api: GraphqlClient, stateDirectory: string, say: (line: string) => void): SourceHostFault {
  let state: 'UP' | 'DOWN' | 'BACK' = 'UP'
  const away = `${stateDirectory}.away`

  async function cutPower(): Promise<void> {
    const machines = join(stateDirectory, 'machines')
    const pids = await Promise.all((await readdir(machines)).map((vm) => readFile(join(machines, vm, 'qemu.pid'), 'utf8')))
    await rename(stateDirectory, away)
    // A file in its place: nobody makes an empty one there meanwhile.
    await writeFile(stateDirectory, '')
    for (const pid of pids) process.kill(Number(pid), 'SIGKILL')
  }

  return {
    requireTold() {
      if (state !== 'BACK')
        throw new Error(
          'The migration went through its switchover before the fault could come, so nothing was shown: start the demo again.',
        )
    },
    async watch({ id, phase, problem }) {
      if (state === 'UP' && (phase === 'BOOT_DESTINATION' || phase === 'HEALTH_CHECK')) {
        state = 'DOWN'
        await cutPower()
        say('FAULT: the host of the source loses its power, in mid-switchover: its VM is killed, its cloud does not answer')
      }
      if (state !== 'DOWN' || phase !== 'RETIRE_SOURCE' || problem === null) return
      state = 'BACK'
      say(`the destination serves; the migration waits for the source's site: ${problem}`)
      const { migrationVerdicts } = await api.run<{ migrationVerdicts: Verdict[] }>(documents.migrationVerdicts, { ids: [id] })
      for (const verdict of migrationVerdicts) {
        say(`VERDICT: ${verdict.verdict} (${verdict.row}): ${verdict.message}`)
        for (const { site, message } of verdict.evidence) say(`  evidence, ${site.toLowerCase()}: ${message}`)
        say(`  safe now: ${verdict.safeActions.join(', ') || 'nothing needs to be done'}`)
      }
      await rm(stateDirectory)
      await rename(away, stateDirectory)
      say("RECOVERY: the host is back; its VM's fence is closed, so nothing starts it beside the one that lives")
    },
  }
}
