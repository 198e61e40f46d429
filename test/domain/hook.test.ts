import { describe, expect, test } from 'vitest'
import { hookRefusal, type Hook } from '../../src/domain/hook.ts'

const action: Record<Hook['action']['kind'], Hook['action']> = {
  COMMAND: { kind: 'COMMAND', command: ['true'] },
  WEBHOOK: { kind: 'WEBHOOK', url: 'https://example.com/', secretName: 'team' },
}
const refusal = (kind: Hook['action']['kind'], when: Hook['when'], phase: Hook['phase'], onFailure: Hook['onFailure'] = 'FAIL') =>
  hookRefusal({ name: 'x', phase, when, timeoutMs: 1, retries: 0, onFailure, action: action[kind] })

describe('where a hook may be', () => {
  test('nothing runs under the lease of the freeze', () => {
    for (const [when, phase] of [
      ['AFTER', 'FREEZE'],
      ['BEFORE', 'SEND_REMAINDER'],
      ['AFTER', 'SEND_REMAINDER'],
      ['BEFORE', 'COMPARE_ROOTS'],
      ['AFTER', 'COMPARE_ROOTS'],
      ['BEFORE', 'SUSPEND_SOURCE'],
    ] as const)
      expect(refusal('WEBHOOK', when, phase, 'IGNORE')).toContain('under a lease')
  })
  test('before the freeze and after the suspension it may be', () => {
    expect(refusal('COMMAND', 'BEFORE', 'FREEZE')).toBeNull()
    expect(refusal('WEBHOOK', 'BEFORE', 'FREEZE')).toBeNull()
    expect(refusal('WEBHOOK', 'AFTER', 'SUSPEND_SOURCE')).toBeNull()
  })
  test('a command needs the agent in the source', () => {
    expect(refusal('COMMAND', 'BEFORE', 'CONNECT_AGENTS')).toContain('use a webhook')
    expect(refusal('COMMAND', 'AFTER', 'CONNECT_AGENTS')).toBeNull()
    expect(refusal('COMMAND', 'AFTER', 'SUSPEND_SOURCE')).toContain('use a webhook')
    expect(refusal('COMMAND', 'AFTER', 'EXPOSE', 'IGNORE')).toContain('use a webhook')
  })
  test('after the commit none can fail the migration', () => {
    expect(refusal('WEBHOOK', 'BEFORE', 'COMMIT')).toBeNull()
    for (const phase of ['COMMIT', 'EXPOSE', 'RETIRE_SOURCE', 'CLEAN_UP'] as const) {
      expect(refusal('WEBHOOK', 'AFTER', phase)).toContain('nothing can be undone')
      expect(refusal('WEBHOOK', 'AFTER', phase, 'IGNORE')).toBeNull()
    }
  })
})
