import { afterAll, beforeAll, expect, test } from 'vitest'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { exampleTabs } from '../../src/server/graphiql-examples.ts'
import { idOf, seed } from './seed.ts'

let api: ApiUnderTest
let viewer: string

beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  viewer = await api.tokenOf('VIEWER')
})
afterAll(() => api.stop())

test('the example of the first tab shows what is there, with objects for relations', async () => {
  const { data, errors } = await api.run<Record<string, unknown>>(viewer, exampleTabs[0]!.query)
  expect(errors).toBeUndefined()
  expect(data).toMatchObject({
    viewer: { tokenName: 'a viewer', role: 'VIEWER' },
    plugins: [{ pluginId: 'alpha', capabilities: ['records.put'] }, { pluginId: 'beta' }],
    clouds: {
      nodes: [
        {
          id: idOf('Cloud', 'east'),
          regions: [{ zones: [{ hosts: [{ name: 'host-1', freeMemoryBytes: null }] }] }],
          networks: [{ subnets: [{ cidr: '10.0.2.0/24' }] }],
          virtualMachines: {
            totalCount: 1,
            nodes: [{ disks: [{ sizeBytes: 2_147_483_648 }], networkInterfaces: [{ addresses: ['10.0.2.15'] }] }],
          },
        },
        { name: 'west', virtualMachines: { totalCount: 0 } },
      ],
    },
    migrations: { nodes: [{ state: 'RUNNING', source: { name: 'vm-001' }, destinationCloud: { name: 'west' } }] },
  })
})
