import { describe, expect, test } from 'vitest'
import { groupEnd, isMemberEnded, memberStandings, type MemberFacts, type MemberMigration } from '../../src/domain/migration-group.ts'
import { checkedName, inOrder, type PlannedMember } from '../../src/domain/migration-group-members.ts'
import { randomNumbers } from '../support/random-numbers.ts'

const member = (name: string, dependsOn: string[] = [], machine = `machine of ${name}`): PlannedMember => ({ name, dependsOn, machine })

describe('the members of a group', () => {
  test.each([
    ['nobody', [], ['input', 'members']],
    ['a thousand and one', Array.from({ length: 1001 }, (_, index) => member(`m${index}`)), ['input', 'members']],
    ['a name twice', [member('a'), member('a', [], 'another')], ['input', 'members', '1', 'name']],
    ['a machine twice', [member('a', [], 'm'), member('b', [], 'm')], ['input', 'members', '1', 'sourceVirtualMachineId']],
    ['an unknown dependency', [member('a'), member('b', ['a', 'c'])], ['input', 'members', '1', 'dependsOn', '1']],
    ['one that depends on itself', [member('a', ['a'])], ['input', 'members', '0', 'dependsOn']],
    ['a circle', [member('a', ['c']), member('b', ['a']), member('c', ['b'])], ['input', 'members', '0', 'dependsOn']],
    [
      'names that objects have of themselves',
      [member('a', ['__proto__']), member('b', ['constructor'])],
      ['input', 'members', '0', 'dependsOn', '0'],
    ],
  ])('are refused with %s', (_what, members, path) => {
    expect(() => inOrder(members)).toThrow(expect.objectContaining({ code: 'INVALID_INPUT', path }))
  })

  test('may be called __proto__, and depend on it', () => {
    expect(inOrder([member('b', ['__proto__']), member('__proto__')]).map(({ name }) => name)).toEqual(['__proto__', 'b'])
  })

  test('may be a thousand in one chain, given from its end', () => {
    const chain = Array.from({ length: 1000 }, (_, index) => member(`m${index}`, index === 0 ? [] : [`m${index - 1}`]))
    expect(inOrder(chain.toReversed())).toEqual(chain)
  })

  test('a circle is spelt out', () => {
    expect(() => inOrder([member('web', ['app']), member('app', ['db']), member('db', ['app'])])).toThrow('app → db → app')
  })

  test('come, in any graph without a circle, after all that they depend on; with one edge that closes a circle they are refused', () => {
    const random = randomNumbers()
    for (let graph = 0; graph < 200; graph++) {
      const count = 2 + random.below(12)
      const names = Array.from({ length: count }, (_, index) => `m${index}`)
      const members = names.map((name, index) =>
        member(
          name,
          names.slice(0, index).filter(() => random.below(3) === 0),
        ),
      )
      const ordered = inOrder(random.shuffled(members)).map(({ name }) => name)
      expect(ordered.toSorted()).toEqual(names.toSorted())
      for (const { name, dependsOn } of members)
        for (const other of dependsOn)
          expect(ordered.indexOf(other), `${other} before ${name}, seed ${random.seed}`).toBeLessThan(ordered.indexOf(name))
      const edge = members.find(({ dependsOn }) => dependsOn.length > 0)
      if (!edge) continue
      const closed = members.map((one) => (one.name === edge.dependsOn[0] ? { ...one, dependsOn: [...one.dependsOn, edge.name] } : one))
      expect(() => inOrder(closed), `seed ${random.seed}`).toThrow(/circle/)
    }
  })

  test.each(['', ' ', ' a', 'a ', 'a\nb', 'a\0', '\u202eevil', 'a\u200bb', 'x'.repeat(101), '\u001b[31mred'])(
    'are not called %j',
    (name) => {
      expect(() => checkedName(name, ['input', 'name'])).toThrow(expect.objectContaining({ code: 'INVALID_INPUT' }))
    },
  )

  test.each(["Robert'); DROP TABLE", 'größe', '数据库', 'a/b.c:d', '<script>', '🦊'])('may be called %j', (name) => {
    expect(checkedName(name, [])).toBe(name)
  })

  test('are the same name however it is composed', () => {
    expect(checkedName('u\u0308', [])).toBe('ü')
  })
})

describe('what a member is at', () => {
  const running = (phase: MemberMigration['phase'] = 'SYNC'): MemberMigration => ({
    state: 'RUNNING',
    phase,
    direction: 'FORWARD',
    endState: null,
  })
  const ended = (state: MemberMigration['state']): MemberMigration => ({ state, phase: 'CLEAN_UP', direction: 'FORWARD', endState: null })
  const facts = (name: string, migration: MemberMigration | null, dependsOn: string[] = []): MemberFacts => ({
    name,
    dependsOn,
    migration,
    refused: false,
  })
  const states = (...members: MemberFacts[]) =>
    [...memberStandings({ state: 'RUNNING', desired: 'RUN' }, members).values()].map(({ state }) => state)

  test('it waits at its cutover, and not before, for those that it depends on', () => {
    expect(states(facts('a', running()), facts('b', running(), ['a']))).toEqual(['RUNNING', 'RUNNING'])
    expect(states(facts('a', running()), facts('b', running('READY_TO_CUT_OVER'), ['a']))).toEqual(['RUNNING', 'WAITING_FOR_DEPENDENCY'])
    expect(states(facts('a', ended('COMPLETED')), facts('b', running('READY_TO_CUT_OVER'), ['a']))).toEqual([
      'COMPLETED',
      'READY_TO_CUT_OVER',
    ])
  })

  test('a failure stops those that depend on it, and theirs, and nobody else', () => {
    expect(
      states(
        facts('a', ended('FAILED')),
        facts('b', ended('CANCELLED'), ['a']),
        facts('c', null, ['b']),
        facts('d', running()),
        facts('e', null, ['d']),
      ),
    ).toEqual(['FAILED', 'STOPPED_BY_DEPENDENCY', 'STOPPED_BY_DEPENDENCY', 'RUNNING', 'WAITING_FOR_SLOT'])
  })

  test('a retried dependency no longer stops', () => {
    expect(states(facts('a', running()), facts('b', null, ['a']))).toEqual(['RUNNING', 'WAITING_FOR_SLOT'])
  })

  test('one whose kept copy is discarded stays what it was', () => {
    expect(states(facts('a', { state: 'RUNNING', phase: 'CLEAN_UP', direction: 'FORWARD', endState: 'FAILED' }))).toEqual(['FAILED'])
  })

  test.each(['PENDING', 'RUNNING'] as const)('one whose rollback is %s stops nobody as long as that may be refused', (state) => {
    const rollback = (phase: MemberMigration['phase']): MemberMigration => ({ state, phase, direction: 'FORWARD', endState: 'ROLLED_BACK' })
    const standingsIn = (phase: MemberMigration['phase']) => {
      const members = [facts('a', rollback(phase)), facts('b', running('READY_TO_CUT_OVER'), ['a']), facts('c', null, ['a'])]
      return memberStandings({ state: 'RUNNING', desired: 'RUN' }, members)
    }
    const asked = standingsIn('STOP_DESTINATION')
    expect([...asked.values()].map(({ state }) => state)).toEqual(['RUNNING', 'WAITING_FOR_DEPENDENCY', 'WAITING_FOR_SLOT'])
    expect(asked.get('b')!.stoppedBy).toBe(null)
    const begun = standingsIn('RECORD_ROLLBACK')
    expect(begun.get('a')!.state).toBe('ROLLED_BACK')
    expect(begun.get('b')!.stoppedBy).toBe('a')
  })

  test('whatever happens in a random graph: exactly those that a failure leads to are stopped, and the group ends with its last member', () => {
    const random = randomNumbers()
    for (let graph = 0; graph < 300; graph++) {
      const names = Array.from({ length: 1 + random.below(10) }, (_, index) => `m${index}`)
      const outcomes = names.map(() => random.of(['COMPLETED', 'FAILED', 'RUNNING'] as const))
      const edges = names.map((_, index) => names.slice(0, index).filter(() => random.below(4) === 0))
      const doomed = new Set<string>()
      const members = names.map((name, index) => {
        const stopped = edges[index]!.some((other) => doomed.has(other))
        if (stopped || outcomes[index] === 'FAILED') doomed.add(name)
        const migration = outcomes[index] === 'RUNNING' ? running() : ended(outcomes[index]!)
        return facts(name, stopped ? random.of([null, ended('CANCELLED')]) : migration, edges[index])
      })
      const standings = memberStandings({ state: 'RUNNING', desired: 'RUN' }, members)
      for (const [index, name] of names.entries()) {
        const stopped = edges[index]!.some((other) => doomed.has(other))
        expect(standings.get(name)!.state === 'STOPPED_BY_DEPENDENCY', `${name}, seed ${random.seed}`).toBe(stopped)
      }
      const all = [...standings.values()].map(({ state }) => state)
      const end = groupEnd('RUN', all)
      expect(end === null).toBe(!all.every(isMemberEnded))
      if (end !== null) expect(end).toBe(doomed.size === 0 ? 'COMPLETED' : 'FAILED')
    }
  })
})
