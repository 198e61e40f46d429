/** The GraphQL documents of the demo: what any client would send. */

const problem = '... on Error { code message remedy }'

export const migrationFields = `
  id state phase problem diskBytes bytesSent rateBytesPerSecond etaMs bottleneck estimatedRemainingMs verified durationMs transport
  currentRound { round totalBytes scannedBytes changedBytes }
  downtime { freezeMs transferMs verifyMs bootMs healthMs totalMs }
  error { message remedy }
  rounds(first: 100) { nodes { round changedBytes bytesSent durationMs } }
  destination { id uniqueId power endpoints { guestPort host port } networkInterfaces { addresses } }
`

export const connectCloud = `mutation Connect($input: ConnectCloudInput!) {
  connectCloud(input: $input) { ... on ConnectCloudSuccess { cloud { id name } } ${problem} }
}`

export const topology = `query Topology {
  clouds(first: 10) { nodes { id name plugin { pluginId } capabilities
    virtualMachines(first: 20) { nodes { id name uniqueId power memoryBytes disks { sizeBytes } } } } }
}`

export const validateMigration = `mutation Validate($input: ValidateMigrationInput!) {
  validateMigration(input: $input) { ... on ValidateMigrationSuccess { findings { severity code message remedy } } ${problem} }
}`

export const startMigration = `mutation Start($input: StartMigrationInput!) {
  startMigration(input: $input) { ... on StartMigrationSuccess { migration { id } } ${problem} }
}`

export const cutOverMigration = `mutation CutOver($input: CutOverMigrationInput!) {
  cutOverMigration(input: $input) { ... on CutOverMigrationSuccess { migration { id } } ${problem} }
}`

export const migrationVerdicts = `query Verdicts($ids: [ID!]!) {
  migrationVerdicts(migrationIds: $ids) { verdict row message safeActions evidence { site message } }
}`

export const migrationProgress = `subscription Progress($id: ID!) { migrationProgress(migrationId: $id) { ${migrationFields} } }`
