import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { selectParent, type ParentCandidate, type SelectionRequirements } from '../../src/domain/parent-selection.ts'

const gibibyte = 2 ** 30

function candidate(name: string, change: Partial<ParentCandidate> = {}): ParentCandidate {
  return {
    parentVmId: `id of ${name}`,
    name,
    recipe: {
      runtime: 'NODE',
      packages: ['nodejs'],
      imagePath: null,
      warmUp: null,
      memoryBytes: gibibyte,
      cpuCount: 1,
      privileges: { network: false, cpuShare: 1, diskBytes: gibibyte, maxLifetimeMs: 60_000 },
    },
    offers: { runtime: 'NODE', runtimeVersion: '18.20.4', libraries: { lodash: '4.17.21' } },
    createdAt: new Date('2026-11-22T14:00:00Z'),
    copies: [{ cloudId: 'east', childOrigin: 'FORKED', freeChildren: 4 }],
    ...change,
  }
}

const python = candidate('python', { offers: { runtime: 'PYTHON', runtimeVersion: '3.11.2', libraries: { numpy: '1.24.2' } } })

function requirements(change: Partial<SelectionRequirements> = {}): SelectionRequirements {
  return {
    parentVmId: null,
    runtime: 'NODE',
    runtimeVersion: null,
    libraries: [],
    privileges: { networkId: null, cpuShare: 1, memoryBytes: null, diskBytes: 1, maxLifetimeMs: 1, peers: 'INTERACTING' },
    children: 2,
    cloudIds: null,
    ...change,
  }
}

const chosen = (candidates: ParentCandidate[], change: Partial<SelectionRequirements> = {}) =>
  selectParent(candidates, requirements(change))

describe('a parent is chosen', () => {
  test('by its runtime, its version and its libraries', () => {
    const node = candidate('node')
    expect(chosen([python, node], { runtimeVersion: '18', libraries: [{ name: 'lodash', version: '4.17' }] })).toEqual({
      parentVmId: 'id of node',
      reason:
        '"node" (NODE 18.20.4) is the only one of 2 that meets every requirement: room for 2 of the children now, all within one cloud, 1073741824 bytes of memory each.',
    })
    expect(chosen([python, node], { runtime: 'PYTHON' })).toMatchObject({ parentVmId: 'id of python' })
  })

  test('with room for all the children before one with less memory', () => {
    const roomy = candidate('roomy')
    const small = candidate('small', {
      recipe: { ...roomy.recipe, memoryBytes: gibibyte / 4 },
      copies: [{ cloudId: 'east', childOrigin: 'FORKED', freeChildren: 1 }],
    })
    expect(chosen([small, roomy])).toMatchObject({ parentVmId: 'id of roomy' })
    expect(chosen([small, roomy], { children: 1 })).toMatchObject({ parentVmId: 'id of small' })
  })

  test('with room within one cloud before one that needs two, where both have room for all', () => {
    const split = candidate('a', {
      copies: [
        { cloudId: 'east', childOrigin: 'FORKED', freeChildren: 1 },
        { cloudId: 'west', childOrigin: 'FORKED', freeChildren: 3 },
      ],
    })
    const together = candidate('b')
    expect(chosen([split, together], { children: 4 })).toMatchObject({ parentVmId: 'id of b' })
    expect(chosen([split], { children: 4 })).toMatchObject({ reason: expect.stringContaining('3 of them within one cloud') })
  })

  test('where it has a copy, and only room there counts', () => {
    const east = candidate('east')
    const west = candidate('west', { copies: [{ cloudId: 'west', childOrigin: 'FORKED', freeChildren: 1 }] })
    expect(chosen([east, west], { cloudIds: ['west'] })).toMatchObject({ parentVmId: 'id of west' })
  })

  test('that children are forked from, before one whose children boot, however roomy; and that one where there is no other', () => {
    const forked = candidate('b', { copies: [{ cloudId: 'east', childOrigin: 'FORKED', freeChildren: 1 }] })
    const booted = candidate('a', { copies: [{ cloudId: 'west', childOrigin: 'BOOTED', freeChildren: 40 }] })
    expect(chosen([booted, forked])).toMatchObject({ parentVmId: 'id of b' })
    expect(chosen([booted])).toMatchObject({
      reason: expect.stringContaining('They are booted, since no cloud that forks has it.') as string,
    })
    expect(chosen([booted, forked], { cloudIds: ['west'] })).toMatchObject({ parentVmId: 'id of a' })
  })

  test('counting room where its children are forked only, unless the clouds are named', () => {
    const both = candidate('both', {
      copies: [
        { cloudId: 'east', childOrigin: 'FORKED', freeChildren: 1 },
        { cloudId: 'west', childOrigin: 'BOOTED', freeChildren: 40 },
      ],
    })
    expect(chosen([both], { children: 9 })).toMatchObject({ reason: expect.stringContaining('room for 1 of') as string })
    expect(chosen([both], { children: 9, cloudIds: ['east', 'west'] })).toMatchObject({
      reason: expect.stringContaining('room for 9 of') as string,
    })
  })

  test('the same whatever the order of the candidates', () => {
    const candidates = fc.array(
      fc.record({
        name: fc.constantFrom('a', 'b', 'c', 'd'),
        free: fc.array(
          fc.record({
            cloudId: fc.constantFrom('east', 'west'),
            childOrigin: fc.constantFrom('FORKED' as const, 'BOOTED' as const),
            freeChildren: fc.nat(3),
          }),
          { maxLength: 2 },
        ),
        age: fc.nat(2),
        version: fc.constantFrom('18.1', '20.1'),
      }),
      { maxLength: 6 },
    )
    fc.assert(
      fc.property(candidates, fc.context(), (drawn, context) => {
        const given = drawn.map(({ name, free, age, version }, place) =>
          candidate(`${name}${place}`, {
            copies: free,
            createdAt: new Date(age),
            offers: { runtime: 'NODE', runtimeVersion: version, libraries: {} },
          }),
        )
        const answer = chosen(given, { runtimeVersion: '18' })
        context.log(JSON.stringify(answer))
        expect(chosen(given.toReversed(), { runtimeVersion: '18' })).toEqual(answer)
      }),
    )
  })
})

describe('where nobody fits, the requirement is named', () => {
  const node = candidate('node')
  test.each<[string, ParentCandidate[], Partial<SelectionRequirements>, string, string]>([
    ['no parent at all', [], {}, 'PARENT', 'No parent VM is ready'],
    ['a runtime', [node], { runtime: 'PYTHON' }, 'RUNTIME', 'No parent VM that is ready offers the runtime PYTHON.'],
    ['a version that only begins alike', [node], { runtimeVersion: '1' }, 'RUNTIME_VERSION', 'version 1 of its runtime'],
    [
      'a library',
      [node, python],
      { libraries: [{ name: 'numpy', version: null }] },
      'LIBRARY',
      'the library numpy together with the runtime NODE: "node" does not.',
    ],
    [
      'a name that objects have of themselves',
      [node],
      { libraries: [{ name: 'constructor', version: null }] },
      'LIBRARY',
      'the library constructor',
    ],
    ['a version of a library', [node], { libraries: [{ name: 'lodash', version: '5' }] }, 'LIBRARY', 'the library lodash 5'],
    ['a network', [node], { privileges: { ...requirements().privileges, networkId: 'n' } }, 'PRIVILEGE', 'children with a network'],
    [
      'half its memory',
      [node],
      { privileges: { ...requirements().privileges, memoryBytes: gibibyte / 2 } },
      'PRIVILEGE',
      '536870912 bytes',
    ],
    ['a cloud', [node], { cloudIds: ['west'] }, 'LOCALITY', 'a copy at the clouds that were asked for'],
    [
      'room',
      [candidate('full', { copies: [{ cloudId: 'east', childOrigin: 'FORKED', freeChildren: 0 }] })],
      {},
      'CAPACITY',
      'room for a child now',
    ],
    ['another id', [node], { parentVmId: 'id of python' }, 'PARENT', 'the id that was asked for'],
  ])('%s', (_what, candidates, change, requirement, message) => {
    expect(chosen(candidates, change)).toEqual({ unmet: { requirement, message: expect.stringContaining(message) } })
  })
})
