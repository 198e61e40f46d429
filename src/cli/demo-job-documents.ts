/** The GraphQL documents of `npm run demo -- job`: what any client would send. */

const problem = '... on Error { code message remedy }'

export const connectCloud = `mutation Connect($input: ConnectCloudInput!) {
  connectCloud(input: $input) { ... on ConnectCloudSuccess { cloud { id name } } ${problem} }
}`

export const registerParentVm = `mutation Register($input: RegisterParentVmInput!) {
  registerParentVm(input: $input) { ... on RegisterParentVmSuccess { parentVm { id } } ${problem} }
}`

export const deleteParentVm = `mutation DeleteParent($input: DeleteParentVmInput!) {
  deleteParentVm(input: $input) { ... on DeleteParentVmSuccess { parentVm { id } } ${problem} }
}`

export const parentVm = `query Parent($id: ID!) {
  parentVm(id: $id) { state problem offers { runtimeVersion } copies { bootMs saveMs memoryBytes } }
}`

export const submitJob = `mutation Submit($input: SubmitJobInput!) {
  submitJob(input: $input) { ... on SubmitJobSuccess { job { id } } ${problem} }
}`

export const cancelJob = `mutation Cancel($input: CancelJobInput!) {
  cancelJob(input: $input) { __typename }
}`

export const jobProgress = `subscription Progress($id: ID!) {
  jobProgress(jobId: $id) {
    id state tasksTotal taskCounts { state count } tasksPerSecond etaMs parentReason problem { message remedy }
    children(first: 50) { nodes { state forkMs memoryBytes tasksDone lossReason } }
  }
}`

export const collectiveOutput = `query Output($id: ID!, $after: Int) {
  job(id: $id) { collectiveOutput(first: 100, after: $after) { outputs { index output } nextAfter } }
}`

export const parentUnchanged = `query Unchanged($id: ID!) { job(id: $id) { parentUnchanged } }`
