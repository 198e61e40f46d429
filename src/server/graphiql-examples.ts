const headers = JSON.stringify({ Authorization: 'Bearer <paste your token here>' }, null, 2)

function tab(query: string, variables?: object) {
  return { headers, query, variables: variables ? JSON.stringify(variables, null, 2) : '' }
}

/** What GraphiQL opens with. The tests run each as it stands. */
export const exampleTabs = [
  tab(`# 1. What is there? Put your token into the Headers tab below, then press the play button.
# The next tabs take the ids that this one shows.
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
    `# 2. Move a running virtual machine. Fill in the ids under Variables.
# Sent again with the same idempotencyKey and input, it does nothing more and answers the same.
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
    `# 3. Watch it: the first answer is the present state, and each one is whole.
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
    `# 4. Cut over, with the MANUAL policy: as soon as the estimated downtime is at most the permitted one.
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
]
