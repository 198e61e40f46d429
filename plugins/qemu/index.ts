/**
 * The qemu provider: VMs are QEMU processes of this machine, started and steered through QMP, with no daemon. They outlive this plugin and the
 * control plane; all that is known of them is in the state directory, in the process table, and in QEMU itself.
 */
import { join } from 'node:path'
import { agentToAgentCopy, contractVersion, definePlugin } from '../../src/plugin-sdk/index.ts'
import { adopt } from './adopt.ts'
import { readConsole } from './console.ts'
import { copiedDisks } from './copied-disks.ts'
import { createFromImage, instantiate } from './create.ts'
import { deleteMachine } from './delete.ts'
import { describe } from './describe.ts'
import { fencing } from './fencing.ts'
import { flattenOverlay } from './flatten-overlay.ts'
import { forking } from './fork/fork.ts'
import { readHostFacts } from './host-facts.ts'
import { openMachineStore } from './machine-store.ts'
import { migrationAgent } from './migration-agent.ts'
import { nameRule } from './name-rule.ts'
import { network } from './network.ts'
import { qemuOptions } from './options.ts'
import { power } from './power.ts'
import { openRecords } from './records.ts'
import { requireTools } from './required-tools.ts'
import type { Site } from './site.ts'
import { makeStateDirectory, requireStateDirectory } from './state-directory.ts'
import { makeStorages, removeDisks } from './storages.ts'
import { testBoot } from './test-boot.ts'
import { discoverTopology } from './topology.ts'

export default definePlugin({
  id: 'qemu',
  apiVersion: contractVersion,
  options: qemuOptions,
  async connect(options, { known, signal, log }) {
    await requireTools(options, signal)
    if (known) await requireStateDirectory(options.stateDirectory)
    else {
      await makeStateDirectory(options.stateDirectory)
      await makeStorages(options)
    }
    const site: Site = {
      options,
      log,
      store: await openMachineStore(options.stateDirectory, (vmId) => removeDisks(options, vmId)),
      host: await readHostFacts(options),
    }
    const records = await openRecords(join(options.stateDirectory, 'records'))
    const networks = network(site, records)
    const fork = await forking(site)
    return {
      discoverTopology: discoverTopology(site),
      virtualMachines: {
        nameRule,
        describe: describe(site),
        ...power(site),
        console: readConsole(site),
        create: createFromImage(site),
        delete: deleteMachine(site),
      },
      destination: {
        instantiate: instantiate(site),
        ...copiedDisks(site),
        flattenOverlay: flattenOverlay(site),
        testBoot: testBoot(site),
        adopt: adopt(site),
        delete: deleteMachine(site),
      },
      network: networks,
      migrationAgent: migrationAgent(site, networks.reachability),
      copyGuestData: agentToAgentCopy,
      fencing: fencing(site),
      ...(fork && { fork }),
      records,
      async close() {},
    }
  },
})
