import { expect, test } from 'vitest'
import { dismissMerge } from '../../../plugins/qemu/block-graph.ts'
import type { MachineDisk } from '../../../plugins/qemu/machine.ts'
import { QmpError, type QmpSession } from '../../../plugins/qemu/qmp.ts'

const disk: MachineDisk = { index: 0, sizeBytes: 1, sealed: true, storageId: 'state' }

/** Refuses to dismiss, with those jobs there. */
function session(jobs: { id: string; status: string }[]): QmpSession {
  return {
    execute: async <Result>(command: string) => {
      if (command === 'job-dismiss') throw new QmpError(command, 'GenericError', 'Job not found')
      return jobs as Result
    },
  }
}

test('a job that somebody else has dismissed meanwhile is forgotten', async () => {
  await expect(dismissMerge(session([]), disk)).resolves.toBeUndefined()
})

test('one that is there and stays is an error', async () => {
  await expect(dismissMerge(session([{ id: 'flatten0', status: 'running' }]), disk)).rejects.toThrow(/job-dismiss/)
})
