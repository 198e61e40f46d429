/** What a job may be: refused before anything is stored. Sizes are of JSON in UTF-8, as it goes to the children. */
export const jobLimits = {
  tasks: 100_000,
  inputBytes: 1_048_576,
  inputsBytes: 33_554_432,
  /** A component is sent to its child as one message, which may have 8 MiB. */
  componentBytes: 8_000_000,
  interactions: 1_000_000,
  programBytes: 1_048_576,
  sharedInputs: 100,
  sharedBytes: 4_194_304,
  /** Nested arrays and objects in a task's input: more than any language's parser takes by default would end the guest's. */
  inputDepth: 100,
  children: 256,
  pausedChildren: 64,
  retries: 10,
  taskTimeoutMs: 86_400_000,
  lifetimeMs: 604_800_000,
  libraries: 50,
  clouds: 20,
} as const

/** What a child may do where its job asks for nothing else. */
export const privilegeDefaults = { cpuShare: 1, diskBytes: 268_435_456, maxLifetimeMs: 3_600_000, peers: 'INTERACTING' } as const
