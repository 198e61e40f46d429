import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { virtualMachines } from '../../src/database/tables/topology.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { idOf, seed, virtualMachine } from './seed.ts'

const count = 57
let api: ApiUnderTest
let viewer: string

interface Page {
  virtualMachines: {
    totalCount: number
    nodes: { name: string }[]
    edges: { cursor: string }[]
    pageInfo: { hasNextPage: boolean; hasPreviousPage: boolean; startCursor: string; endCursor: string }
  }
}
const pages = `query ($first: Int, $last: Int, $after: String, $before: String, $orderBy: VirtualMachineOrder! = NAME_ASC, $filter: VirtualMachineFilter) {
  virtualMachines(first: $first, last: $last, after: $after, before: $before, orderBy: $orderBy, filter: $filter) {
    totalCount nodes { name } edges { cursor } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}`
const page = async (variables: object) => {
  const { data, errors } = await api.run<Page>(viewer, pages, variables)
  expect(errors).toBeUndefined()
  return data.virtualMachines
}

beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  viewer = await api.tokenOf('VIEWER')
  const more = Array.from({ length: count - 1 }, (_, index) =>
    // Only two sizes of memory, so that pages by size have to tell equals apart.
    virtualMachine(index + 2, {
      memoryBytes: index % 2 === 0 ? 1024 : 2048,
      power: index < 3 ? 'STOPPED' : 'RUNNING',
      present: index !== 7,
    }),
  )
  await api.db.write((orm) => [orm.insert(virtualMachines).values(more)])
})
afterAll(() => api.stop())

test.for(['NAME_ASC', 'NAME_DESC', 'MEMORY_DESC'])('pages forwards in order %s give every machine once', async (orderBy) => {
  const names: string[] = []
  for (let after: string | undefined, more = true; more;) {
    const { nodes, pageInfo, totalCount } = await page({ first: 10, after, orderBy })
    expect(totalCount).toBe(count)
    names.push(...nodes.map((node) => node.name))
    after = pageInfo.endCursor
    more = pageInfo.hasNextPage
  }
  expect(new Set(names).size).toBe(count)
  expect(names).toHaveLength(count)
  if (orderBy === 'NAME_ASC') expect(names).toEqual(names.toSorted())
  if (orderBy === 'NAME_DESC') expect(names).toEqual(names.toSorted().toReversed())
})

test('pages backwards from the end meet the pages forwards', async () => {
  const newest = await page({ last: 5 })
  expect(newest.nodes.map((node) => node.name)).toEqual(['vm-053', 'vm-054', 'vm-055', 'vm-056', 'vm-057'])
  expect(newest.pageInfo).toMatchObject({ hasPreviousPage: true })
  const before = await page({ last: 3, before: newest.pageInfo.startCursor })
  expect(before.nodes.map((node) => node.name)).toEqual(['vm-050', 'vm-051', 'vm-052'])
})

test('a machine that comes before the page does not shift it', async () => {
  const first = await page({ first: 10 })
  await api.db.write((orm) => [orm.insert(virtualMachines).values(virtualMachine(900, { name: 'aaa' }))])
  const second = await page({ first: 1, after: first.pageInfo.endCursor })
  expect(second.nodes).toEqual([{ name: 'vm-011' }])
  await api.db.write((orm) => [orm.delete(virtualMachines).where(eq(virtualMachines.name, 'aaa'))])
})

test('filters narrow the page and its total', async () => {
  expect((await page({ filter: { power: ['STOPPED'] } })).totalCount).toBe(3)
  expect((await page({ filter: { present: false } })).nodes).toEqual([{ name: 'vm-009' }])
  expect((await page({ filter: { nameContains: 'VM-00' } })).totalCount).toBe(9)
  expect((await page({ filter: { nameContains: "%'; drop table virtual_machines" } })).totalCount).toBe(0)
  expect((await page({ filter: { cloudId: idOf('Cloud', 'west') } })).totalCount).toBe(0)
  expect((await page({ filter: { uniqueId: '00000000-0000-4000-8000-000000000001' } })).nodes).toEqual([{ name: 'vm-001' }])
  expect((await page({ filter: { power: [] } })).totalCount).toBe(0)
})

test('without a length there are 20, and more than 100 are refused rather than cut short', async () => {
  expect((await page({})).nodes).toHaveLength(20)
  const { errors } = await api.run(viewer, pages, { first: 101 })
  expect(errors?.[0]).toMatchObject({
    message: 'first must be from 0 to 100, and was 101.',
    extensions: { code: 'INVALID_INPUT', path: ['first'] },
  })
})

test('a filter may say a value as often as it likes, and is refused with more than 1,000 different ones', async () => {
  expect((await page({ filter: { power: Array.from({ length: 40_000 }, () => 'STOPPED') } })).totalCount).toBe(3)
  const clouds = (pluginIds: string[]) =>
    api.run<{ clouds: unknown }>(viewer, 'query ($filter: CloudFilter) { clouds(filter: $filter) { totalCount } }', {
      filter: { pluginIds },
    })
  expect((await clouds(Array.from({ length: 1_000 }, (_, index) => (index ? `p${index}` : 'alpha')))).data).toEqual({
    clouds: { totalCount: 1 },
  })
  const { errors } = await clouds(Array.from({ length: 40_000 }, (_, index) => `p${index}`))
  expect(errors).toMatchObject([
    {
      message: expect.stringContaining('filter.pluginIds must have 1000 different values at most, and has 40000') as string,
      extensions: { code: 'INVALID_INPUT', path: ['filter', 'pluginIds'] },
    },
  ])
  expect(api.logged.filter(([level]) => level === 'error')).toEqual([])
})

test('a broken cursor and an id of another type are refused by name', async () => {
  for (const after of [
    'nonsense',
    ...['[1]', '["a",{}]', '[1e999,"a"]', '[[],"a"]'].map((text) => Buffer.from(text).toString('base64url')),
  ]) {
    const { errors } = await api.run(viewer, pages, { after })
    expect(errors?.[0]?.extensions).toMatchObject({ code: 'INVALID_INPUT', path: ['after'] })
  }
  const { errors } = await api.run(viewer, pages, { filter: { cloudId: idOf('Host', 'east/h1') } })
  expect(errors?.[0]?.message).toBe('filter.cloudId must be the id of a Cloud, and what was given names a Host. Nothing was changed.')
})
