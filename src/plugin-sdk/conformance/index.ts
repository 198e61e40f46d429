/**
 * The conformance suite, for a plugin's author to call from a test file of their own:
 *
 *   import * as vitest from 'vitest'
 *   import { describeProvider } from 'portolan/plugin-sdk/conformance'
 *   await describeProvider('my cloud', async () => ({ plugin: './index.js', options: { … } }), vitest)
 *
 * Every changing call is made through a crash of the plugin's process and repeated; what the plugin or the subject lacks is skipped and named.
 */
import { adoptionChecks } from './adoption-checks.ts'
import { connectionChecks } from './connection-checks.ts'
import { destinationChecks } from './destination-checks.ts'
import { fencingChecks } from './fencing-checks.ts'
import { forkChecks } from './fork-checks.ts'
import { recordChecks } from './record-checks.ts'
import { closeSession, openSession, type Session, type Suite, type TestApi } from './session.ts'
import type { ConformanceSubject } from './subject.ts'
import { virtualMachineChecks } from './virtual-machine-checks.ts'

export type { ConformanceSubject, TestApi }

const checkTimeoutMs = 10 * 60_000

/**
 * Registers the suite. `setup` runs once, before the first test. Give the Vitest that runs the file as `api` where the SDK is a link: it would find its own.
 */
export async function describeProvider(name: string, setup: () => Promise<ConformanceSubject>, api?: TestApi): Promise<void> {
  const { describe, test, expect, beforeAll, afterAll } = api ?? (await import('vitest'))
  let opened: Session | undefined
  const skipped = new Set<string>()
  const suite: Suite = {
    api: { describe, test, expect, beforeAll, afterAll },
    session() {
      if (!opened) throw new Error('The set-up of the conformance suite failed.')
      return opened
    },
    check(title, needs, body) {
      test(title, { timeout: checkTimeoutMs }, async (context) => {
        const session = suite.session()
        const absent = needs.capabilities.filter((capability) => !session.connected.capabilities.includes(capability))
        const notGiven = (needs.subject ?? []).filter((member) => session.subject[member] === undefined)
        if (absent.length + notGiven.length > 0) {
          for (const capability of needs.capabilities) skipped.add(capability)
          context.skip(
            [...absent.map((member) => `the plugin has no ${member}`), ...notGiven.map((member) => `the subject gives no ${member}`)].join(
              '; ',
            ),
          )
        }
        await body(session)
      })
    },
  }

  describe(`${name} conforms to the provider contract`, () => {
    beforeAll(async () => {
      opened = await openSession(await setup())
    }, checkTimeoutMs)
    afterAll(async () => {
      if (!opened) return
      console.info(report(name, opened, skipped))
      await closeSession(opened)
    }, checkTimeoutMs)

    connectionChecks(suite)
    recordChecks(suite)
    virtualMachineChecks(suite)
    fencingChecks(suite)
    destinationChecks(suite)
    adoptionChecks(suite)
    forkChecks(suite)

    describe('at the end', () => {
      test('the cloud is as it was before', { timeout: checkTimeoutMs }, async () => {
        const { before, connection, subject } = suite.session()
        const after = await connection.discoverTopology({})
        const ids = (topology: typeof after) => ({
          virtualMachines: topology.virtualMachines.map(({ id }) => id).toSorted(),
          networks: topology.networks.map(({ id }) => id).toSorted(),
        })
        expect(ids(after)).toEqual(ids(before.topology))
        expect(((await subject.leftovers?.()) ?? []).toSorted()).toEqual(before.leftovers.toSorted())
      })
    })
  })
}

function report(name: string, { connected, called }: Session, skipped: Set<string>): string {
  const list = (capabilities: Iterable<string>) => [...capabilities].toSorted().join(', ') || 'none'
  const notCalled = connected.capabilities.filter((capability) => !called.has(capability))
  return [
    `${name}: tested: ${list(called)}`,
    `${name}: skipped, being absent or without a subject: ${list([...skipped].filter((capability) => !called.has(capability)))}`,
    `${name}: there, but not for this suite to test: ${list(notCalled)}`,
  ].join('\n')
}
