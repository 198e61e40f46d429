/** What one operation may ask for. Chosen so that GraphiQL's introspection and every example pass with room, and a page of pages of pages does not. */
export const limits = {
  /** Nested selections, counting each fragment as one. */
  depth: 16,
  /** Aliases in a document. */
  aliases: 20,
  /** Directives in a document. */
  directives: 20,
  /** Lexical tokens in a document. */
  tokens: 2_000,
  /** Fields that could come back: one each, times the length of the pages and lists around it. */
  cost: 20_000,
  /** Longest page of a connection, and the one taken when none is asked for. */
  pageSize: 100,
  defaultPageSize: 20,
  /** Different values that one condition of a filter may name. */
  filterValues: 1_000,
  /** What a list that is no connection counts for. */
  assumedListLength: 4,
  /** Levels of a cloud's options. */
  optionsDepth: 64,
  /** What a value of up to 1 MiB counts for: a page holds some dozens of them. */
  longValue: 300,
  /** Longest page of a job's collective output; it ends earlier where outputs are long. */
  outputs: 1_000,
  outputsBytes: 8_388_608,
  /** Bytes of a request's body or of a WebSocket message; a group of a thousand migrations is half of it. */
  bodyBytes: 1_048_576,
  /** Bytes of the body of a `submitJob`: its tasks' inputs may have 32 MiB. */
  jobBodyBytes: 50_331_648,
} as const
