const headers = JSON.stringify({ Authorization: 'Bearer <paste your token here>' }, null, 2)

function tab(query: string, variables?: object) {
  return { headers, query, variables: variables ? JSON.stringify(variables, null, 2) : '' }
}

/** What GraphiQL opens with. The tests run each as it stands. */
export const exampleTabs = [
  tab(`# 1. What is there? Put your token under Headers,
# below, and press play. The next tabs take ids from here.
query WhatIsThere {
  viewer { tokenName role }
  plugins { pluginId apiVersion { major minor } capabilities }
  clouds {
    nodes {
      id
      name
      state
      problem
      regions { name zones { name hosts { name freeMemoryBytes } } }
      networks { id name subnets { cidr } }
      virtualMachines {
        totalCount
        nodes {
          id
          name
          power
          disks { sizeBytes }
          networkInterfaces { macAddress addresses }
        }
      }
    }
  }
  migrations {
    nodes { id state phase source { name } destinationCloud { name } }
  }
}
`),
  tab(
    `# 2. Move a running machine: ids go under Variables.
# Sent again with the same idempotencyKey, it answers
# the same and does nothing more.
mutation StartMigration($input: StartMigrationInput!) {
  startMigration(input: $input) {
    __typename
    ... on StartMigrationSuccess {
      migration { id state phase }
    }
    ... on Error { code message remedy path }
  }
}
`,
    {
      input: {
        idempotencyKey: 'my-first-migration',
        sourceVirtualMachineId: '<id of a virtual machine>',
        destinationCloudId: '<id of another cloud>',
        permittedDowntimeMs: 60_000,
        cutoverPolicy: 'MANUAL',
        healthCheck: { http: { port: 8080, path: '/health' } },
      },
    },
  ),
  tab(
    `# 3. Watch it: first comes the present state, then the
# whole again at each change, until the migration ends.
subscription WatchMigration($migrationId: ID!) {
  migrationProgress(migrationId: $migrationId) {
    state
    phase
    problem
    rateBytesPerSecond
    etaMs
    estimatedRemainingMs
    bottleneck
    bytesSent
    currentRound { round mode changedBytes bytesSent }
    verified
    downtime { totalMs }
    error { code message remedy }
  }
}
`,
    { migrationId: '<id of a migration>' },
  ),
  tab(
    `# 4. Cut over, with the MANUAL policy: done as soon as
# estimatedRemainingMs <= permittedDowntimeMs.
mutation CutOver($input: CutOverMigrationInput!) {
  cutOverMigration(input: $input) {
    __typename
    ... on CutOverMigrationSuccess {
      migration { id phase }
    }
    ... on Error { code message remedy path }
  }
}
`,
    { input: { idempotencyKey: 'my-first-cutover', migrationId: '<id of a migration>' } },
  ),
  tab(
    `# 5. After a fault: what was moved, by the records of the cloud that it
# went to. Changes nothing; reconcileMigrations does what is safe.
query AfterAFault($cloudId: ID!) {
  migrationVerdicts(cloudId: $cloudId) {
    name
    verdict
    row
    message
    safeActions
    evidence { site kind found message readAt }
    reconciliation { state problem done }
  }
}
`,
    { cloudId: '<id of the destination cloud>' },
  ),
  tab(
    `# 6. Run a program many times over, in virtual machines
# forked from a warmed parent (an admin makes one with
# registerParentVm).
mutation SubmitJob($input: SubmitJobInput!) {
  submitJob(input: $input) {
    __typename
    ... on SubmitJobSuccess {
      job { id state tasksTotal componentCount }
    }
    ... on Error { code message remedy path }
  }
}
`,
    {
      input: {
        idempotencyKey: 'my-first-job',
        name: 'squares',
        requirements: { runtime: 'NODE' },
        program: 'export default async (input, context) => {\n  context.log(`squaring ${input}`)\n  return input * input\n}\n',
        tasks: [{ input: 1 }, { input: 2 }, { input: 3 }],
      },
    },
  ),
  tab(
    `# 7. Watch it until it ends: what its tasks gave is in
# collectiveOutput, in their order, page by page.
subscription WatchJob($jobId: ID!) {
  jobProgress(jobId: $jobId) {
    state
    problem { code message remedy }
    parentVm { name }
    parentReason
    taskCounts { state count }
    tasksPerSecond
    etaMs
    children { nodes { ordinal state forkMs memoryBytes tasksDone lossReason } }
    collectiveOutput(first: 10) { outputs { index output } nextAfter }
    parentUnchanged
  }
}
`,
    { jobId: '<id of a job>' },
  ),
]
